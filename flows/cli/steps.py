"""What commands share: which settings hold, how progress and logins are shown, and who looks on."""

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from stamina.instrumentation import RetryDetails, get_on_retry_hooks, set_on_retry_hooks

from annotation.server import status as server_status
from annotation.settings import AnnotationSettings
from flows.cli.bars import shown_on, stage_tables
from flows.cli.console import console
from flows.engine.job import Around, plainly
from flows.engine.progress import StageSummary
from flows.outcome import what_changed
from flows.prefect_server import running_server, use_server
from flows.settings import Settings, load_settings, settings_of
from storage.errors import FatalError
from storage.workspace import Workspace

Result = TypeVar("Result")


def settings_from(workspace: str, config: Path | None) -> Settings:
    """The settings of a config file, or those that the workspace was built with.

    Says how a build with another config would differ. Raises FatalError where there are none.
    """
    place = Workspace.open(workspace)
    try:
        kept = settings_of(place)
    except FatalError as error:  # of an older release, or damaged: another config is a way out
        if config is None:
            error.add_note("Or give --config FILE: the workspace holds that config once a build with it is finished.")
            raise
        kept = None
    if config is None:
        if kept is None:
            is_there = "://" in workspace or Path(workspace).is_dir()
            raise FatalError(
                f"The workspace {workspace} {'holds no settings yet' if is_there else 'does not exist'}, and there is "
                "no --config. Correct --workspace; or write settings with `guardset init --preset NAME` and give "
                "--config guardset.yaml: from the first build on the workspace remembers them."
            )
        return kept
    settings = load_settings(config)
    if kept is not None:
        for sentence in what_changed(place, settings):
            console.print(f"{config}: {sentence}", highlight=False, soft_wrap=True)
    return settings


@contextmanager
def progress() -> Iterator[None]:
    """Draw the progress of what runs inside, and say what is tried again."""
    before = get_on_retry_hooks()
    set_on_retry_hooks([_say_retry])
    try:
        with shown_on(console):
            yield
    finally:
        set_on_retry_hooks(before)


def _say_retry(details: RetryDetails) -> None:
    again = f"{details.caused_by} Trying again in {details.wait_for:.0f} s."
    console.print(again, highlight=False, soft_wrap=True, markup=False)


def run_flow(name: str, work: Callable[[Around], Result], workspace: str, **parameters: object) -> Result:
    """Run a command's work and draw its progress; with a Prefect server as a flow run there."""
    with progress():
        if not use_server(workspace):
            return work(plainly)
        from flows.tracked import tracked  # Prefect takes seconds to import

        shown = {"workspace": workspace} | {key: str(value) for key, value in parameters.items()}
        return tracked(f"guardset-{name}", work, shown, workspace)


def same_place(workspace: str, config: Path | None) -> str:
    """The options that make another command work on the same data with the same settings, as a shell reads them."""
    return shlex.join(["--workspace", workspace, *(("--config", str(config)) if config else ())])


def show_stages(stages: list[StageSummary]) -> None:
    """Print what each stage took in, gave out and refused."""
    for table in stage_tables(stages):
        console.print(table)


def show_servers(workspace: str, annotation: AnnotationSettings) -> None:
    """Print where Label Studio and Prefect are and how to log in, or how to start them."""
    lines, local = [], 0
    if annotation.url is not None:
        lines.append(f"Label Studio: {annotation.url}")
    elif (studio := server_status(workspace)) is not None:
        lines += [f"Label Studio: {studio.url}", f"  login {studio.username}  password {studio.password}"]
        local += 1
    if (prefect := running_server(workspace)) is not None:
        lines.append(f"Prefect: {prefect.url}")
        local += 1
    elif url := os.environ.get("PREFECT_API_URL"):
        lines.append(f"Prefect: {url}")
    place = same_place(workspace, None)
    if local:
        lines.append(f"  {'Both keep' if local == 2 else 'It keeps'} running. To stop: guardset down {place}")
    elif "://" not in workspace and annotation.url is None:
        lines.append(f"Label Studio is not running. To start it: guardset up {place}")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def sent_sentence(sent: int, already_there: int, what: str, projects: Sequence[int]) -> str:
    """What a publication did, in a sentence."""
    place = f"project{'s' if len(projects) > 1 else ''} {', '.join(map(str, projects))}"
    return f"Published {sent} {what} to Label Studio {place}; {already_there} were there before."
