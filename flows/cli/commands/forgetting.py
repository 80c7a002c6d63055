"""`guardset forget`: an image that must go."""

from typing import Annotated

from cyclopts import Parameter

from flows.cli.console import ConfigArg, WorkspaceArg, console
from flows.cli.steps import run_flow, settings_from
from flows.forget import forget as forget_image


def forget(
    what: Annotated[str, Parameter(help="SHA-256 of the image's file, of its blob or of an edit; or the file itself.")],
    /,
    *,
    workspace: WorkspaceArg,
    config: ConfigArg = None,
) -> None:
    """Remove an image with all that was made of it and said of it, and keep it from coming back.

    Its edits, captions, tasks and votes go with it. Exports are not changed: those that hold it are listed.

    Example: `guardset forget photo.jpg --workspace work`
    """
    settings = settings_from(workspace, config)
    done = run_flow("forget", lambda _: forget_image(settings, workspace, what), workspace=workspace)
    console.print(
        f"Forgot {done.image_id}: {done.edits} edits, {done.tasks} tasks, {done.votes} votes, {done.blobs} files of "
        "pixels. It may not come back.",
        highlight=False,
    )
    if done.shared:
        console.print(f"{done.shared} files of pixels stay, since other images have the same.", highlight=False)
    for place in done.exports:
        console.print(f"Still in {place}: delete that export, and write another one.", highlight=False, soft_wrap=True)
    if done.server_folders:
        console.print(
            f"Files of exports stay on the disk of {settings.annotation.url} and may hold it: empty "
            f"{', '.join(done.server_folders)} in its data folder.",
            highlight=False,
            soft_wrap=True,
        )
