"""`guardset publish`, `collect`, `status` and `annotators …`: where people label."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Annotated

from cyclopts import App, Parameter

from annotation.accounts import add_annotator, reset_password
from annotation.publish import Publication
from annotation.webhook import Hints, check_secret, receiver
from flows.annotate import Collection, collect_votes, publish_build, publish_build_pairs
from flows.cli.console import ConfigArg, WorkspaceArg, console
from flows.cli.status import describe
from flows.cli.steps import progress, run_flow, sent_sentence, settings_from, show_servers
from flows.servers import local_server
from flows.settings import Settings
from storage.errors import FatalError, TransientError

annotators_app = App(name="annotators", help="Look after the accounts of those who label.")


def publish(
    *,
    workspace: WorkspaceArg,
    config: ConfigArg = None,
    verdicts: Annotated[bool, Parameter(help="The images, one by one, to be judged under each policy.")] = True,
    pairs: Annotated[bool, Parameter(help="Edits beside their originals, to be judged for their quality.")] = False,
) -> None:
    """Put the newest build before annotators; what is there already stays as it is.

    Example: `guardset publish --workspace work --pairs`
    """
    settings = settings_from(workspace, config)
    for what, wanted, put in (("images", verdicts, publish_build), ("pairs", pairs, publish_build_pairs)):
        if not wanted:
            continue
        done = run_flow("publish", lambda _, put=put: put(settings, workspace), workspace=workspace, what=what)  # type: ignore[misc]
        places = [p.project_id for p in done.projects] if isinstance(done, Publication) else [done.project_id]
        console.print(sent_sentence(done.published, done.already_there, what, places), highlight=False)
    show_servers(workspace, settings.annotation)


def collect(
    *,
    workspace: WorkspaceArg,
    config: ConfigArg = None,
    full: Annotated[bool, Parameter(help="Read every annotation, not only what changed.")] = False,
    watch: Annotated[float | None, Parameter(help="Repeat after so many seconds, until stopped.")] = None,
    webhook_port: Annotated[
        int | None, Parameter(help="With --watch: collect at once when a webhook calls this port of 127.0.0.1.")
    ] = None,
) -> None:
    """Fetch the votes given so far, and ask a third person or a judge where they disagree.

    Example: `guardset collect --workspace work --watch 300`
    """
    settings = settings_from(workspace, config)
    if watch is None and webhook_port is not None:
        raise FatalError("--webhook-port needs --watch: a webhook only hints, and what it misses is found by looking.")
    if watch is None:
        _collect_once(workspace, settings, full)
    else:
        _watch(workspace, settings, full, watch, webhook_port)


def _watch(workspace: str, settings: Settings, full: bool, every_s: float, port: int | None) -> None:
    """Collect for ever. A server that is away for a while is asked again; whatever needs a person ends it."""
    hints = Hints()
    with ExitStack() as stack:
        if port is not None:
            variable = settings.annotation.webhook_secret_env
            stack.enter_context(receiver(port, check_secret(os.environ.get(variable, ""), variable), hints))
        while True:
            try:
                _collect_once(workspace, settings, full)
            except TransientError as error:
                console.print(f"{error} Asking again in {every_s:g} s.", highlight=False)
            hints.wait(every_s)


def _collect_once(workspace: str, settings: Settings, full: bool) -> None:
    collection = run_flow("collect", lambda _: collect_votes(settings, workspace, full=full), workspace=workspace)
    for line in _found(collection):
        console.print(line, highlight=False)


def _found(collection: Collection) -> Iterator[str]:
    """What a collect brought, in sentences."""
    result, step, pairs = collection.result, collection.round, collection.pairs
    yield (
        f"{result.table.num_rows} votes from {result.annotations} annotations ({result.new} new, {result.gone} gone, "
        f"{result.skipped} skipped); {len(result.rejected)} malformed ones are in quarantine."
    )
    if result.deleted:
        yield f"{len(result.deleted)} annotations were deleted on the server."
    if step.overlap.raised or step.adjudication.cells:
        yield f"{step.overlap.raised} images go to another person, {step.adjudication.cells} disputes to a judge."
    if pairs is not None:
        yield f"{len(pairs.ratings)} ratings of edits; {len(pairs.rejected)} malformed ones are in quarantine."


def status(*, workspace: WorkspaceArg, config: ConfigArg = None) -> None:
    """Show the newest build, what was refused, how far annotation is, and where the servers are.

    Example: `guardset status --workspace work`
    """
    settings = settings_from(workspace, config)
    for part in describe(settings, workspace):
        console.print(part, highlight=False)
    show_servers(workspace, settings.annotation)


@annotators_app.command
def add(email: str, *, workspace: WorkspaceArg, config: ConfigArg = None) -> None:
    """Make an account for an annotator on the workspace's own Label Studio, and show its password once.

    Example: `guardset annotators add ann@example.org --workspace work`
    """
    settings = settings_from(workspace, config)
    if settings.annotation.url is not None:
        raise FatalError(f"Accounts on {settings.annotation.url} are made there: Organization, Add Members.")
    with progress():
        server = local_server(workspace, settings.annotation)
    password = add_annotator(server, email)
    console.print(f"{server.url}  login {email}  password {password}", highlight=False)


@annotators_app.command
def reset(email: str, *, workspace: WorkspaceArg, config: ConfigArg = None) -> None:
    """Give an annotator of the workspace's own Label Studio a new password, and show it once.

    Example: `guardset annotators reset ann@example.org --workspace work`
    """
    settings = settings_from(workspace, config).annotation
    if settings.url is not None:
        raise FatalError(f"Accounts on {settings.url} are looked after there.")
    password = reset_password(workspace, email, settings.executable)
    console.print(f"login {email}  password {password}", highlight=False)
