"""`guardset up`, `down`, `serve`, `inspect`, `check` and `workspace …`: servers, schedules, sources, damage, copies."""

import os
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from annotation.settings import AnnotationSettings
from flows.check import check as check_files
from flows.checks import check_names, listed
from flows.cli.console import ConfigArg, WorkspaceArg, console
from flows.cli.steps import progress, show_servers
from flows.cli.tables import TextTable
from flows.engine.progress import report_progress
from flows.prefect_server import use_server
from flows.schedules import read_plan
from flows.servers import start_servers, stop_servers
from flows.settings import load_settings, settings_of
from flows.sources import list_source, preview
from policies.loading import load_policy_set
from storage.copy import copy_workspace
from storage.errors import FatalError
from storage.ingest import IngestSettings
from storage.open_store import open_store
from storage.sources import kind_of
from storage.workspace import Workspace

workspace_app = App(name="workspace", help="Look after a workspace.")


def up(*, workspace: WorkspaceArg, config: ConfigArg = None) -> None:
    """Start the workspace's own Label Studio and Prefect server on 127.0.0.1, and show where they are.

    They run until `guardset down`. With the Prefect server, what commands do on this workspace is shown on its pages.
    Label Studio keeps its data in SQLite, or in the PostgreSQL database whose URL stands in the environment variable
    GUARDSET_LABEL_STUDIO_DB at the first start.

    Example: `guardset up --workspace work`
    """
    settings = load_settings(config) if config else settings_of(Workspace.open(workspace))
    annotation = AnnotationSettings() if settings is None else settings.annotation
    with progress():
        start_servers(workspace, annotation)
    show_servers(workspace, annotation)


def down(*, workspace: WorkspaceArg) -> None:
    """Stop the workspace's own Label Studio and Prefect server; their data stay.

    Example: `guardset down --workspace work`
    """
    for name, was_running in stop_servers(workspace).items():
        console.print(f"{name}: {'stopped.' if was_running else 'was not running.'}", highlight=False)


def serve(schedules: Path, /) -> None:
    """Run build, collect and export on their schedules, with one worker here, until stopped.

    Needs a Prefect server: the workspace's own (`guardset up`), or the one that PREFECT_API_URL names. docs/deploy.md
    shows a schedules file.

    Example: `guardset serve schedules.yaml`
    """
    plan, settings = read_plan(schedules)
    if not use_server(plan.workspace):
        own = f"Start the workspace's own with `guardset up --workspace {shlex.quote(plan.workspace)}`, or set"
        raise FatalError(
            f"Schedules need a Prefect server that keeps running. {'Set' if '://' in plan.workspace else own} "
            "PREFECT_API_URL to one, e.g. http://127.0.0.1:4200/api."
        )
    # A worker's log is wanted, here and on the runs' pages; other commands are quiet.
    os.environ |= {"PREFECT_LOGGING_LEVEL": "INFO", "PREFECT_LOGGING_TO_API_ENABLED": "true"}
    from flows.serve import serve as run_worker

    run_worker(plan, settings)


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


def check(
    workspace: Annotated[str, Parameter(help="Folder or s3://bucket/prefix.")],
    /,
    *,
    repair: Annotated[bool, Parameter(help="Remove what is damaged where a build makes it again.")] = False,
) -> None:
    """Read every file of a workspace and list what is damaged; the exit status is 1 if anything is.

    With `--repair` run the same build again afterwards: it makes anew what was removed. What people said and what was
    exported is never removed; the list says what to do about it. Let no build run meanwhile.

    Example: `guardset check work --repair`
    """
    with progress():
        found = check_files(workspace, repair=repair)
    for one in found:
        todo = "Removed; run the build again." if one.removed else one.todo
        line = f"{one.kind}  {one.key}  {one.found}. {todo}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if found:
        sys.exit(1)
    console.print("Nothing is damaged.")


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
