"""How much of a scarce thing builds use at once, wherever they run: GPUs, API servers, Label Studio.

The limits are Prefect's global concurrency limits, so they hold for all machines that work with one Prefect server and
can be changed in its UI while builds run. `guardset serve` creates them.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency

from flows.engine_settings import LimitSettings
from storage.stage import Needs

Scarce = Literal["gpu", "api", "label-studio"]


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
