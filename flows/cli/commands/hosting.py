"""`guardset serve`, `guardset inspect` and `guardset workspace …`: schedules, sources, and moving house."""

import os
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from flows.checks import check_names, listed
from flows.cli.console import ConfigArg, console
from flows.cli.steps import progress
from flows.cli.tables import TextTable
from flows.engine.progress import report_progress
from flows.settings import load_settings
from flows.sources import list_source, preview
from policies.loading import load_policy_set
from storage.copy import copy_workspace
from storage.ingest import IngestSettings
from storage.open_store import open_store
from storage.sources import kind_of

workspace_app = App(name="workspace", help="Look after a workspace.")


def serve(schedules: Path, /) -> None:
    """Run build, collect and export on their schedules, with one worker here, until stopped.

    Needs a Prefect server: set PREFECT_API_URL. docs/deploy.md shows a schedules file.

    Example: `guardset serve schedules.yaml`
    """
    # A worker's log is wanted, here and on the runs' pages; other commands are quiet.
    os.environ |= {"PREFECT_LOGGING_LEVEL": "INFO", "PREFECT_LOGGING_TO_API_ENABLED": "true"}
    from flows.serve import serve as run_worker

    run_worker(schedules)


def inspect(source: str, /, *, config: ConfigArg = None) -> None:
    """Show what a build would read: how many images, and the first ten as they were understood.

    SOURCE is a folder, s3://bucket/prefix, a Parquet file or folder, a `datasets` folder, or a .jsonl of paths. The
    policies and the block list that the config names are read too, so that a build does not stop at them.

    Example: `guardset inspect photos.parquet --config guardset.yaml`
    """
    ingest, settings = IngestSettings(), None
    if config is not None:
        settings = load_settings(config)
        check_names(settings, load_policy_set(settings.policies))
        ingest = settings.ingest
    count, rows = preview(source, ingest)
    table = []
    for row in rows:
        size = "" if row.trouble else f"{row.size[0]}x{row.size[1]}"
        about = [_shortened(str(row.about.get(name, ""))) for name in ("category", "boxes", "labels")]
        table.append((row.key, size, row.licence, *about, row.trouble))
    headings = ("key", "size", "licence", "category", "boxes", "labels", "trouble")
    said = [n for n, heading in enumerate(headings) if heading == "key" or any(line[n] for line in table)]
    shown = [[line[n] for n in said] for line in table]
    title = f"{source}: {kind_of(source)}, {count} images"
    console.print(TextTable(title, [headings[n] for n in said], shown, len(said)))
    if settings is not None and settings.editing.locate.manifest is not None:
        known = listed(settings.editing.locate.manifest, list_source(source, ingest))
        console.print(f"The manifest {settings.editing.locate.manifest} lists {known} of them.", highlight=False)


def _shortened(text: str, longest: int = 120) -> str:
    """A cell that may hold the polygons of a whole image."""
    return text if len(text) <= longest else f"{text[:longest]}…"


@workspace_app.command
def copy(
    source: Annotated[str, Parameter(help="Folder or s3://bucket/prefix.")],
    target: Annotated[str, Parameter(help="Folder or s3://bucket/prefix.")],
    /,
) -> None:
    """Copy a workspace, checking every file by its hash. Run again, it copies what is missing or differs.

    Label Studio keeps its own data: a published project still points at the images of the old place.

    Example: `guardset workspace copy work s3://bucket/work`
    """
    with progress():
        result = copy_workspace(open_store(source), open_store(target), partial(report_progress, "copy"))
    console.print(
        f"{result.copied} files ({result.copied_bytes / 1e6:.1f} MB) copied, {result.there} were there before, "
        f"{result.left_behind} (claims, local Label Studio) stay behind.",
        highlight=False,
    )
