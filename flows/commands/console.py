"""What every command shares: the console, its arguments, and how progress and logins are shown."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console

if TYPE_CHECKING:
    from flows.progress import StageSummary
    from flows.settings import Settings

console = Console()

WorkspaceArg = Annotated[str, Parameter(name=["--workspace", "-w"], help="Folder or s3://bucket/prefix.")]
ConfigArg = Annotated[Path | None, Parameter(name=["--config", "-c"], help="YAML file of settings.")]


def settings_from(workspace: str, config: Path | None) -> "Settings":
    """The settings of a config file, or those that the workspace was built with.

    Says what a build with another config would do again. Raises FatalError where there are none.
    """
    from flows.pipeline import redone
    from flows.settings import load_settings, settings_of
    from policies.loading import load_policy_set
    from storage.errors import FatalError
    from storage.workspace import Workspace

    try:
        kept = settings_of(Workspace.open(workspace))
    except FatalError:  # of an older release, or damaged: another config is a way out
        if config is None:
            raise
        kept = None
    if config is None:
        if kept is None:
            raise FatalError(
                f"{workspace} holds no settings yet, and --config names none. Write some with `guardset init --preset "
                "NAME`, then give --config guardset.yaml: from the first build on the workspace remembers them."
            )
        return kept
    settings = load_settings(config)
    if kept is not None and kept != settings:
        try:
            policies = load_policy_set(kept.policies), load_policy_set(settings.policies)
            again = redone(kept, settings, policies)
        except FatalError:  # what the workspace was built with is gone, so nobody can tell
            return settings
        if again:
            console.print(
                f"{config} differs from what {workspace} was built with: a build does {', '.join(again)} again, and "
                "what follows from other results.",
                highlight=False,
                soft_wrap=True,
            )
        changed = [p.id for p in policies[1] if p.content_hash not in {q.content_hash for q in policies[0]}]
        if changed:
            console.print(
                f"Policies that are new or say something else: {', '.join(changed)}. Votes were given under the old "
                "texts.",
                highlight=False,
                soft_wrap=True,
            )
    return settings


@contextmanager
def progress() -> Iterator[None]:
    """Draw the progress of the flows that run inside."""
    from flows.progress import shown_on

    with shown_on(console):
        yield


@contextmanager
def running_flows() -> Iterator[None]:
    """As `progress`, with Prefect's temporary server for the flows, which Ctrl-C does not reach."""
    from flows.temporary_server import serving_flows

    with progress(), serving_flows():
        yield


def same_place(workspace: str, config: Path | None) -> str:
    """The options that make another command work on the same data with the same settings, as a shell reads them."""
    return shlex.join(["--workspace", workspace, *(("--config", str(config)) if config else ())])


def show_stages(stages: "list[StageSummary]") -> None:
    """Print what each stage took in, gave out and refused."""
    from flows.progress import stage_tables

    for table in stage_tables(stages):
        console.print(table)


def show_login(workspace: str, settings: "Settings") -> None:
    """Print where Label Studio is and how to log in, or how to start it."""
    from annotation.server import status as server_status

    if settings.annotation.url is not None:
        console.print(f"Label Studio: {settings.annotation.url}", highlight=False)
        return
    running = server_status(workspace)
    if running is None:
        console.print(f"Label Studio is not running. Start it: guardset annotate up --workspace {workspace}")
        return
    console.print(f"Label Studio: {running.url}", highlight=False)
    console.print(f"  login {running.username}  password {running.password}", highlight=False)
    console.print(f"  It keeps running. Stop it: guardset annotate down --workspace {workspace}", highlight=False)
