"""The device of this process, a GPU or the CPU: one network computes on it at a time, and what is not needed leaves it.

Networks of several stages take turns, whatever threads they are called from: two at once would share the device's time
and the seeds of its random numbers, and gain nothing.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Protocol

from storage.errors import DeviceLostError


class Resident(Protocol):
    """A model with weights in memory."""

    def let_go(self) -> None:
        """Drop the weights; the next call loads them again. Called while no network computes."""
        ...


@dataclass
class DeviceTime:
    """Seconds in which a network of somebody computed, in which it waited for another's, and in which it was
    loaded."""

    busy_s: float = 0.0
    waited_s: float = 0.0
    loading_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, *, busy_s: float = 0.0, waited_s: float = 0.0, loading_s: float = 0.0) -> None:
        """Count more, from any thread."""
        with self.lock:
            self.busy_s, self.waited_s = self.busy_s + busy_s, self.waited_s + waited_s
            self.loading_s += loading_s


@dataclass
class _Device:
    turn: threading.RLock = field(default_factory=threading.RLock)
    depth: int = 0
    residents: dict[int, Resident] = field(default_factory=dict)  # by identity
    unneeded: set[int] = field(default_factory=set)


_device = _Device()
_time: ContextVar[DeviceTime | None] = ContextVar("device_time", default=None)


@contextmanager
def timed() -> Iterator[DeviceTime]:
    """Count the device's time for what this thread, and those that work in its context, do inside the block."""
    counted = DeviceTime()
    token = _time.set(counted)
    try:
        yield counted
    finally:
        _time.reset(token)


@contextmanager
def at_device() -> Iterator[None]:
    """Compute while nobody else does; may be nested."""
    asked, counted = time.perf_counter(), _time.get() or DeviceTime()
    with _device.turn:
        began, loading_s = time.perf_counter(), counted.loading_s
        _device.depth += 1
        try:
            yield
        except Exception as error:
            check_not_lost(error)
            raise
        finally:
            _device.depth -= 1
            if not _device.depth:  # the time of one inside another is counted already
                spent_s = time.perf_counter() - began - (counted.loading_s - loading_s)
                counted.add(busy_s=spent_s, waited_s=began - asked)


def check_not_lost(error: Exception) -> None:
    """Raises DeviceLostError for an error after which the accelerator answers this process no more: no row is to blame
    for what follows."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.AcceleratorError):
        raise DeviceLostError(f"The accelerator failed and needs a new process: {error}") from error


def load_on_device(model: Resident, load: Callable[[], None]) -> None:
    """Load a model's weights, after those that `make_room` named and nobody has used since have left. Called at the
    device."""
    began, counted = time.perf_counter(), _time.get()
    for key in _device.unneeded:
        _device.residents.pop(key).let_go()
    _device.unneeded.clear()
    load()
    _device.residents[id(model)] = model
    if counted is not None:
        counted.add(loading_s=time.perf_counter() - began)


def still_needed(model: Resident) -> None:
    """Keep the model's weights: it is used."""
    _device.unneeded.discard(id(model))


def make_room() -> None:
    """Let the models that are loaded now go as soon as another is to be loaded, unless they are used first."""
    with _device.turn:
        _device.unneeded.update(_device.residents)
