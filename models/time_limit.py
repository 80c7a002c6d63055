"""A time limit for a pipeline call in this process.

Python cannot stop a thread, so there are two limits. At the first, every network of the pipeline refuses to
start its next forward pass: a slow call ends within one step and the pipeline stays usable. A single pass
that never returns ignores that; at twice the limit the caller is let go and the thread is left behind with
the pipeline that it holds, which must not be used again.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")


class PastDeadlineError(Exception):
    """The call was stopped between two forward passes; the pipeline is fit for the next call."""


class StuckError(Exception):
    """The call never came back; its thread and its pipeline are lost."""


@contextmanager
def _stops(modules: dict[str, Any], late: threading.Event) -> Iterator[None]:
    """While open, each network raises PastDeadlineError at its next pass once `late` is set."""
    import torch

    def check(_module: Any, _inputs: Any) -> None:
        if late.is_set():
            raise PastDeadlineError

    networks = [module for module in modules.values() if isinstance(module, torch.nn.Module)]
    hooks = [network.register_forward_pre_hook(check) for network in networks]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def call_within(limit_s: float | None, modules: dict[str, Any], call: Callable[[], Result]) -> Result:
    """What `call` returns or raises; `modules` are the networks it runs.

    Raises PastDeadlineError after `limit_s` seconds, or StuckError after twice as many when no forward pass
    began in between. None: no limit, and no thread.
    """
    if limit_s is None:
        return call()
    late, done = threading.Event(), threading.Event()
    results: list[Result] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with _stops(modules, late):
                results.append(call())
        except BaseException as error:  # noqa: BLE001  (handed to the caller's thread, which raises it)
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=work, name="pipeline call", daemon=True).start()
    if not done.wait(limit_s):
        late.set()
        if not done.wait(limit_s):
            raise StuckError
    if errors:
        raise errors.pop()
    return results[0]
