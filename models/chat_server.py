"""What all callers of one chat model on one server share: its event loop, its connections, and its patience."""

import asyncio
import itertools
import ssl
import threading
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from models.in_flight import Allowance
from models.openai_connections import Connection, Slots
from storage.transport import tls

_Result = TypeVar("_Result")


class ChatServer:
    """Requests of all callers run in one event loop: while one decodes its next images, another's fill the slots."""

    def __init__(self, allowance: Allowance) -> None:
        self.allowance = allowance
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connections: list[Connection] = []
        self._trusted: ssl.SSLContext | None = None
        self._slots = Slots(allowance, self._connect)
        self._calls = itertools.count()
        self._not_before = 0.0  # time.monotonic() until which the server asked for silence

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Wait for work in the server's loop, from any thread."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="chat-server", daemon=True).start()
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # nothing is paid for after an interrupt
            raise

    def next_call(self) -> int:
        """The number of a call; an earlier one is served first."""
        return next(self._calls)

    @asynccontextmanager
    async def slot(self, call: int) -> AsyncIterator[Connection]:
        """A connection for the duration of the block, once one is free for this call."""
        connection = await self._slots.take(call)
        try:
            yield connection
        finally:
            self._slots.give(connection)

    def be_silent(self, seconds: float) -> None:
        """Send nothing for so long, as the server asked."""
        self._not_before = max(self._not_before, time.monotonic() + seconds)

    async def silence(self) -> None:
        """Wait until the server may be asked again."""
        await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))

    def close(self) -> None:
        """Close the connections and the loop; whoever asks later opens them anew."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self._hang_up(), loop).result()
            loop.call_soon_threadsafe(loop.stop)

    async def _hang_up(self) -> None:
        for connection in self._connections:
            await connection.close()
        self._connections, self._trusted = [], None
        self._slots = Slots(self.allowance, self._connect)

    def _connect(self) -> Connection:
        self._trusted = self._trusted or tls()
        self._connections.append(Connection(self._trusted))
        return self._connections[-1]
