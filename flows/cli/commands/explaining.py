"""`guardset explain` and `guardset show`."""

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.cli.console import ConfigArg, WorkspaceArg, console
from flows.cli.steps import settings_from
from flows.cli.tables import TextTable
from storage.errors import FatalError
from storage.reasons import REASONS
from storage.validation import printable
from storage.workspace import Workspace


def explain(
    *codes: Annotated[str, Parameter(help="Reason codes, as status, report and quarantine show them; default: all.")],
) -> None:
    """Say what a reason code means, and what to do about it."""
    for code in codes:
        if code not in REASONS:
            near = get_close_matches(code, REASONS, 3, 0.5)
            meant = f" Did you mean {' or '.join(near)}?" if near else " `guardset explain` lists all."
            raise FatalError(f"There is no reason code {code}.{meant}")
    rows = [
        (code, REASONS[code].measured, REASONS[code].remedy, "yes" if REASONS[code].may_pass else "no")
        for code in codes or REASONS
    ]
    console.print(TextTable("Why rows are refused", ("code", "what was found", "what to do", "tried again"), rows, 4))


def show(
    image: str,
    /,
    *,
    workspace: WorkspaceArg,
    config: ConfigArg = None,
    to: Annotated[Path | None, Parameter(help="Write it as a page with pictures, too: a new .html file.")] = None,
) -> None:
    """Show one image's way through every stage: regions, edits, certificates, captions, labels.

    IMAGE is the name of its file, or the first digits of its id or of an edited image's.

    Example: `guardset show street.jpg --workspace work`
    """
    from flows.history import history

    steps = history(settings_from(workspace, config), workspace, image)
    for step in steps:
        console.print(f"[bold]{step.name}[/]: {step.says}", highlight=False)
        for line in step.lines:
            console.print(printable(f"  {line}"), markup=False, highlight=False, soft_wrap=True)
    if to is not None:
        from guard.export.history_page import history_page

        page = history_page(image, steps, Workspace.open(workspace).blobs)
        with to.open("x", encoding="utf-8") as file:  # nothing is overwritten
            file.write(page)
        console.print(f"Open {to}", highlight=False, soft_wrap=True)
