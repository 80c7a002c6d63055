"""Prefect's side: with a server a command is a flow run, each stage a task of it, and limits hold on all machines.

Only this file, `artifacts.py` and `serve.py` import Prefect: without a server nobody waits for it.

The limits are Prefect's global concurrency limits (GPUs, API servers, Label Studio), so they hold wherever builds of
one Prefect server run, and can be changed in its UI meanwhile. `guardset serve` creates them.
"""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, TypeVar, cast

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from flows.artifacts import ProgressArtifacts, leave, leave_failure
from flows.engine.job import Around
from flows.engine.progress import reported_to
from flows.engine.settings import LimitSettings
from storage.stage import Needs

Result = TypeVar("Result")
Scarce = Literal["gpu", "api", "label-studio"]


def tracked(name: str, work: Callable[[Around], Result], parameters: dict[str, Any], root: str) -> Result:
    """Run a command's work on the workspace `root` as a flow run of this name; `parameters` are what its page shows.

    Its page gets what `followed` and `leave` put there.
    """

    @flow(name=name)
    def run(parameters: dict[str, Any]) -> Any:
        with followed(shlex.join(["guardset", *sys.argv[1:]])):
            result = work(as_task)
            leave(result, root)
            return result

    # A heartbeat at the end would take up to a second, in which a Ctrl-C is lost.
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        return cast("Result", run(parameters))


@contextmanager
def followed(command: str) -> Iterator[None]:
    """Show the block's progress on the pages of the run and of its stages, and what a failure was, with the command
    that goes on."""
    with reported_to(ProgressArtifacts()):
        try:
            yield
        except Exception as error:
            leave_failure(error, command)
            raise


def as_task(name: str, work: Callable[[], Result], /) -> Result:
    """Run a stage as a task of the flow that is running."""

    @task(name=name, cache_policy=NO_CACHE, persist_result=False)  # the ledger decides what is done
    def run() -> Any:
        return work()

    return cast("Result", run())


def limit_name(what: Scarce) -> str:
    """The limit's name in Prefect."""
    return f"guardset-{what}"


@contextmanager
def one_of(what: Scarce) -> Iterator[None]:
    """Hold one place for the duration of the block; without a limit of that name nothing is held."""
    with concurrency(limit_name(what), occupy=1):
        yield


def hold(needs: Needs) -> AbstractContextManager[object]:
    """Hold what a stage takes while it works, as a pool does."""
    return nullcontext() if needs == "nothing" else one_of("gpu" if needs == "gpu" else "api")


def create_limits(limits: LimitSettings) -> None:
    """Make or change the limits at the Prefect server."""
    wanted: dict[Scarce, int] = {"gpu": limits.gpu, "api": limits.api, "label-studio": limits.label_studio}
    with get_client(sync_client=True) as client:
        for what, places in wanted.items():
            client.upsert_global_concurrency_limit_by_name(limit_name(what), places)
