"""How many requests a server gets at once: as many as the settings allow, fewer while it is overloaded."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar
from weakref import WeakValueDictionary

_OVERLOADED = (429, 503, 529)
_ONE_SIGN_S = 1.0  # answers that come together are one sign of overload


class Allowance:
    """Requests that may be in flight: halved when the server is overloaded, and one more for each round of answers, up
    to `most` (additive increase, multiplicative decrease; Chiu and Jain 1989)."""

    def __init__(self, most: int) -> None:
        self._most, self._allowed, self._lowered = most, float(most), -_ONE_SIGN_S
        self._lock = threading.Lock()

    @property
    def allowed(self) -> int:
        """At least one."""
        return int(self._allowed)

    def lower_to(self, most: int) -> None:
        """Allow no more than so many from now on."""
        with self._lock:
            self._most = min(self._most, most)
            self._allowed = min(self._allowed, float(self._most))

    def note(self, *, overloaded: bool) -> None:
        """What an answer says; several in a second lower the allowance once."""
        with self._lock:
            if not overloaded:
                self._allowed = min(float(self._most), self._allowed + 1 / self._allowed)
            elif time.monotonic() - self._lowered >= _ONE_SIGN_S:
                self._allowed, self._lowered = max(1.0, self._allowed / 2), time.monotonic()


def is_overloaded(status: int) -> bool:
    """Whether a status asks for fewer requests: 429, 503, and 529 as some hosts have it."""
    return status in _OVERLOADED


class Shared(Protocol):
    """What the callers of one server share: made of how many requests it gets at once."""

    def __init__(self, allowance: Allowance, /) -> None: ...

    allowance: Allowance


_Shared = TypeVar("_Shared", bound=Shared)
_servers: WeakValueDictionary[tuple[object, str, str], Any] = WeakValueDictionary()
_guard = threading.Lock()


def one_for(kind: type[_Shared], address: str, model: str, most: int) -> _Shared:
    """What all callers in this process that name this model at this address share, as long as one of them is there.
    The least of their limits holds for all: it is the server's."""
    with _guard:
        found: _Shared | None = _servers.get((kind, address.rstrip("/"), model))
        if found is None:
            found = _servers[kind, address.rstrip("/"), model] = kind(Allowance(most))
        found.allowance.lower_to(most)
        return found


class Places:
    """Places for threads that ask one server, as many as its allowance."""

    def __init__(self, allowance: Allowance) -> None:
        self.allowance, self._taken = allowance, 0
        self._changed = threading.Condition()

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold a place for the duration of the block."""
        with self._changed:
            while self._taken >= self.allowance.allowed:
                self._changed.wait()
            self._taken += 1
        try:
            yield
        finally:
            with self._changed:
                self._taken -= 1
                self._changed.notify_all()
