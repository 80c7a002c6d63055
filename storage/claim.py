"""Of two builds at the same work one does it and the other waits: claims on shards, by conditional puts alone.

A claim is the key `claims/<stage>/<fingerprint>/<turn>`, which only one writer can create. Its owner rewrites it every
few seconds. Who finds it taken watches: when it has not changed for a while its owner is dead, and the next turn
is free to claim. No clocks are compared. A dead process on this machine is noticed at once.

Claims save work; they do not keep data right. That is the ledger's doing, whose tables are written once.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

from storage.errors import GuardsetError
from storage.records.ids import canonical_json
from storage.store import Store

BEAT_S = 15.0  # how often an owner shows that it lives
STALE_S = 90.0  # how long a claim may stand still
_POLL_S = 0.5
log = logging.getLogger(__name__)
_TOKEN = uuid.uuid4().hex  # tells two containers apart that share a host name and a pid


@dataclass
class _Watch:
    """What a waiting process saw last, and since when it has not changed."""

    turn: int = 0
    seen: bytes = b""
    since: float = field(default_factory=time.monotonic)

    def look(self, content: bytes) -> float:
        """Seconds for which the claim has stood still."""
        if content != self.seen:
            self.seen, self.since = content, time.monotonic()
        return time.monotonic() - self.since

    def next_turn(self) -> None:
        self.turn, self.seen, self.since = self.turn + 1, b"", time.monotonic()


@contextmanager
def claimed(store: Store, stage: str, fingerprint: str, is_done: Callable[[], bool]) -> Iterator[bool]:
    """Hold the claim on a shard; the answer is False when another build finished it while we waited."""
    folder = f"claims/{stage}/{fingerprint}"
    watch = _Watch()
    while not store.write(f"{folder}/{watch.turn}", _mark(0), durable=False):
        if is_done():
            yield False
            return
        _wait(store, f"{folder}/{watch.turn}", watch)
    with _beating(store, f"{folder}/{watch.turn}"):
        # Its owner may have finished and let go between our look at the table and our claim.
        done = is_done()
        try:
            yield not done
        finally:
            for turn in range(watch.turn + 1):
                store.delete(f"{folder}/{turn}")


def _wait(store: Store, key: str, watch: _Watch) -> None:
    try:
        content = store.read(key)
    except FileNotFoundError:  # let go: the first turn is free again
        watch.turn, watch.seen = 0, b""
        return
    if watch.look(content) > STALE_S or _owner_is_dead(content):
        watch.next_turn()
        return
    _say_once(_awaited(key, content))
    time.sleep(_POLL_S)


@cache
def _say_once(sentence: str) -> None:
    """Each shard that another build has in hand would say the same."""
    log.warning(sentence)


def _awaited(key: str, content: bytes) -> str:
    owner = json.loads(content)
    return (
        f"Another build (process {owner.get('pid')} on {owner['host']}) works on the same {key.split('/')[1]}; waiting "
        f"for what it makes. If it has died, this one goes on {STALE_S:.0f} s after its last sign of life."
    )


def _mark(beat: int) -> bytes:
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "beat": beat, "token": _TOKEN}
    return canonical_json(owner).encode()


def _owner_is_dead(content: bytes) -> bool:
    """A process of this machine that is gone; of other machines nothing is known. A damaged claim is nobody's."""
    try:
        owner = json.loads(content)
        if owner["host"] != socket.gethostname() or owner["token"] == _TOKEN:
            return False
        os.kill(owner["pid"], 0)
    except (ProcessLookupError, ValueError, KeyError, TypeError, OverflowError):
        return True
    except PermissionError:
        pass
    return False


@contextmanager
def _beating(store: Store, key: str) -> Iterator[None]:
    """Rewrite the claim now and then until the block ends."""
    stop = threading.Event()

    def beat() -> None:
        number = 0
        while not stop.wait(BEAT_S):
            number += 1
            try:
                store.write(key, _mark(number), overwrite=True, durable=False)
            except GuardsetError:
                continue  # a store that does not answer now may do so at the next beat

    thread = threading.Thread(target=beat, name="claim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
