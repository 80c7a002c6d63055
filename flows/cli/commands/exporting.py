"""`guardset export`, `guardset verify` and `guardset report`."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from flows.cli.console import ConfigArg, WorkspaceArg, console
from flows.cli.steps import run_flow, same_place, settings_from
from flows.cli.tables import TextTable
from flows.engine.job import Around
from flows.export import write_export, write_report
from guard.export.diff import diff as difference_of
from guard.export.verify import verify as faults_of
from guard.export.write import ExportResult


def export(
    *,
    workspace: WorkspaceArg,
    config: ConfigArg = None,
    to: Annotated[str | None, Parameter(help="Folder or s3://bucket/prefix instead of the workspace.")] = None,
    version: Annotated[str | None, Parameter(help="Name of this version; default: a hash of its content.")] = None,
    partial: Annotated[bool, Parameter(help="Do not fail for want of labels in rl/ or benchmark/.")] = False,
    labels: Annotated[
        tuple[str, ...],
        Parameter(help="A published set's Parquet, whose labels count instead of votes; may be given several times."),
    ] = (),
) -> None:
    """Write the Parquet that trainers read, with configs for them, a dataset card and a report.

    Where rl/ or benchmark/ has no row because labels are missing, the rest is written and the exit status is 1.

    Example: `guardset export --workspace work --to s3://bucket/datasets`
    """
    settings = settings_from(workspace, config)

    def tell(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True)

    def work(around: Around) -> ExportResult:
        return write_export(settings, workspace, version, to, tell, labels)

    result = run_flow("export", work, workspace=workspace, to=to)
    console.print(f"{'Found' if result.looked_up else 'Wrote'} {result.path}", highlight=False)
    console.print(f"Open {result.path}/report.html", highlight=False)
    for line in _missing(result.counts, same_place(workspace, config)):
        console.print(line, highlight=False, soft_wrap=True)
    if not partial and _lacks_labels(result.counts):
        sys.exit(1)


def _empty(counts: Mapping[str, Any]) -> list[str]:
    """The views without a row."""
    return [f"{view}/" for view, splits in counts["views"].items() if not splits]


def _lacks_labels(counts: Mapping[str, Any]) -> bool:
    """Whether rl/ or benchmark/ is not there for want of labels."""
    left_out = counts["left_out"]
    return bool({"rl/", "benchmark/"} & {*_empty(counts)}) and bool(
        left_out["cells_without_label"] + left_out["cells_in_conflict"]
    )


def _missing(counts: Mapping[str, Any], place: str) -> Iterator[str]:
    """Which views have no row, why, and what to run next. `place` as `same_place` gives it."""
    empty = _empty(counts)
    if not empty:
        return
    left_out = counts["left_out"]
    unlabelled, disputed = left_out["cells_without_label"], left_out["cells_in_conflict"]
    yield f"Not there, for want of rows: {', '.join(empty)}. The report counts what was left out, and why."
    if _lacks_labels(counts):
        yield (
            f"rl/ and benchmark/ are made of labels: {unlabelled} verdicts (an image under a policy) have none yet, "
            f"{disputed} are in conflict. Next, unless they are with annotators already: guardset publish {place}. "
            f"When people have labelled: guardset collect {place}, then export again. "
            f"What each waits for: guardset status {place}. To take the export as it is: --partial"
        )


def verify(path: Annotated[str, Parameter(help="An export's folder or s3:// URL.")], /) -> None:
    """Read an export again and list what is wrong with it; the exit status is 1 if anything is.

    Checks every file's hash, each shard's columns and rows, that images decode and say whether they were edited, that
    labels agree with each other, that no family and no two copies stand in train and test, counts, and balance.

    Example: `guardset verify work/exports/guardset/1.0`
    """
    faults = faults_of(path)
    for fault in faults:
        console.print(f"{fault.code}  {fault.path}  {fault.detail}", highlight=False, markup=False, soft_wrap=True)
    if faults:
        sys.exit(1)
    console.print("Nothing is wrong.")


def diff(
    before: Annotated[str, Parameter(help="An export's folder or s3:// URL.")],
    after: Annotated[str, Parameter(help="Another one.")],
    /,
) -> None:
    """Say what differs between two exports: rows, labels, splits, policies and settings, and why.

    Rows are held against each other by image, policy and view; pixels are not compared.

    Example: `guardset diff work/exports/guardset/1.0 work/exports/guardset/1.1`
    """
    found = difference_of(before, after)
    console.print(f"From {found.before} to {found.after}:", highlight=False, markup=False)
    for kind in ("policies", "settings", "columns"):
        for line in getattr(found, kind):
            console.print(f"{kind}: {line}", highlight=False, markup=False, soft_wrap=True)
    rows = [(c.view, c.what, str(c.rows), c.why, "; ".join(c.examples[:2])) for c in found.changes]
    if rows:
        console.print(TextTable("Rows", ("view", "what", "rows", "why", "for example"), rows))
    if found.same:
        console.print("Nothing differs.")


def report(
    *,
    workspace: WorkspaceArg,
    config: ConfigArg = None,
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="File to write.")] = Path("report.html"),
) -> None:
    """Write the report of what is there so far, without an export.

    Example: `guardset report --workspace work --output report.html`
    """
    settings = settings_from(workspace, config)
    run_flow("report", lambda _: write_report(settings, workspace, output), workspace=workspace, output=output)
    console.print(f"Open {output}", highlight=False)
