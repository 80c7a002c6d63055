"""How much of a scarce thing builds use at once, wherever they run: GPUs, API servers, Label Studio.

The limits are Prefect's global concurrency limits, so they hold for all machines that work with one Prefect server and
can be changed in its UI while builds run. `guardset serve` creates them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency

from flows.cost import fingerprint_of
from flows.pool import Pool
from flows.settings import Settings
from storage.stage import ShardOutcome, StageSpec
from storage.workspace import Workspace

Scarce = Literal["gpu", "api", "label-studio"]


def limit_name(what: Scarce) -> str:
    """The limit's name in Prefect."""
    return f"guardset-{what}"


def scarce_of(settings: Settings) -> dict[str, Scarce]:
    """Which stages need a GPU and which call a server; the others take what is left of this machine."""
    editing, recaption = settings.editing, settings.recaption
    looks, captions = editing.locate.server is not None, recaption.caption.server is not None
    remote = {
        "locate": looks,
        "certify": looks,
        "second_look": looks,
        "edit": editing.edit.endpoint is not None,
        "caption": captions,
        "caption_edited": captions,
        "rewrite": recaption.rewrite.server is not None,
    }
    return {stage: "api" if is_remote else "gpu" for stage, is_remote in remote.items()}


class LimitedPool:
    """Lets a shard wait until what it needs is free. A shard that is done already waits for nothing."""

    def __init__(self, inner: Pool, settings: Settings) -> None:
        self._inner = inner
        self._scarce = scarce_of(settings)

    def run(self, workspace: Workspace, spec: StageSpec, input_hash: str) -> ShardOutcome:
        what = self._scarce.get(spec.name)
        if what is None or workspace.ledger.has(spec.name, fingerprint_of(spec, input_hash)):
            return self._inner.run(workspace, spec, input_hash)
        with concurrency(limit_name(what), occupy=1):
            return self._inner.run(workspace, spec, input_hash)

    def finish(self, stage: str) -> None:
        self._inner.finish(stage)


@contextmanager
def one_of(what: Scarce) -> Iterator[None]:
    """Hold one place for the duration of the block; without a limit of that name nothing is held."""
    with concurrency(limit_name(what), occupy=1):
        yield


def create_limits(settings: Settings) -> None:
    """Make or change the limits at the Prefect server as the config says."""
    limits = settings.limits
    wanted: dict[Scarce, int] = {"gpu": limits.gpu, "api": limits.api, "label-studio": limits.label_studio}
    with get_client(sync_client=True) as client:
        for what, places in wanted.items():
            client.upsert_global_concurrency_limit_by_name(limit_name(what), places)
