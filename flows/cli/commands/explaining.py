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
    html: Annotated[
        Path | None, Parameter(help="Also write a page with the pictures, blurred until asked for; never over a file.")
    ] = None,
) -> None:
    """Show one image's way through every stage: regions, edits, certificates, captions, labels, exports.

    IMAGE is the name of its file, or the first digits of its id or of an edited image's.

    Example: `guardset show street.jpg --workspace work --html street.html`
    """
    from flows.history import history, history_page

    found = history(settings_from(workspace, config), workspace, image)
    for step in found.steps:
        console.print(f"[bold]{step.name}[/]: {step.says}", highlight=False)
        for line in step.lines:
            console.print(printable(f"  {line}"), markup=False, highlight=False, soft_wrap=True)
    if html is not None:
        page = history_page(found, Workspace.open(workspace).blobs)
        try:
            with html.open("x", encoding="utf-8") as file:
                file.write(page)
        except FileExistsError as error:
            raise FatalError(f"{html} exists already and is left as it is. Choose another --html.") from error
        console.print(f"Open {html}", highlight=False, markup=False)
