"""Connections to an OpenAI-compatible server, one for each request in flight."""

import asyncio
import heapq
import itertools
import ssl
from collections.abc import Mapping

import httpx

from storage.errors import FatalError

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_LISTED_WITHIN_S = 15.0


def served_models(base_url: str, key: str = "") -> list[str]:
    """The names that a server lists; raises FatalError when it does not answer with a list of models.

    Messages name the host alone, because an address may hold a password.
    """
    try:
        url = httpx.URL(f"{base_url.rstrip('/')}/models")
    except httpx.InvalidURL as error:
        raise FatalError(f"The address of the model server is none: {error}.") from error
    host = url.host if url.port is None else f"{url.host}:{url.port}"
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        reply = httpx.get(url, headers=headers, timeout=_LISTED_WITHIN_S, trust_env=url.host not in _LOOPBACK)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise FatalError(
            f"No server answers at {host} ({type(error).__name__}). Start it, or correct base_url."
        ) from error
    if reply.status_code in (401, 403):
        raise FatalError(f"{host} refuses the key. Correct the environment variable that api_key_env names.")
    try:
        return [str(entry["id"]) for entry in reply.raise_for_status().json()["data"]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise FatalError(
            f"{host} answers {reply.status_code}, but not with a list of models. base_url mostly ends in /v1."
        ) from error


class Connection:
    """Sends one request at a time; opens the connection anew when the server closed it.

    A client for each, because a shared pool looks at all of its connections for each request, which at 64 costs ten
    times as much as everything else. Proxies are those that the environment names, but for a server on this machine.
    """

    def __init__(self, base: httpx.URL, tls: ssl.SSLContext) -> None:
        alone = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        says = {"accept": "application/json", "user-agent": "guardset"}
        nearby = base.host in _LOOPBACK
        self._client = httpx.AsyncClient(verify=tls, limits=alone, headers=says, timeout=None, trust_env=not nearby)

    async def send(self, method: str, url: httpx.URL, headers: Mapping[str, str], body: bytes = b"") -> httpx.Response:
        """The whole answer. Sets no time limit; raises httpx.TransportError."""
        return await self._client.request(method, url, headers=headers, content=body)

    async def close(self) -> None:
        """Hangs up; a later `send` fails."""
        await self._client.aclose()


class Slots:
    """Connections without a request in flight. Who asks for one in an earlier call of `generate` gets it first.

    With equal shares, two calls would end at the same moment, and the server would idle while both callers
    prepare their next.
    """

    def __init__(self) -> None:
        self._free: list[Connection] = []
        self._waiting: list[tuple[int, int, asyncio.Future[Connection]]] = []
        self._tickets = itertools.count()

    async def take(self, call: int) -> Connection:
        """A connection, as soon as one is free; to be given back."""
        if self._free:
            return self._free.pop()
        promise: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (call, next(self._tickets), promise))
        try:
            return await promise
        except asyncio.CancelledError:
            if promise.done() and not promise.cancelled():  # given and cancelled in the same turn of the loop
                self.give(promise.result())
            raise

    def give(self, connection: Connection) -> None:
        """Make a connection free: for the one who waits longest in the earliest call, if anybody waits."""
        while self._waiting:
            *_, promise = heapq.heappop(self._waiting)
            if not promise.done():
                promise.set_result(connection)
                return
        self._free.append(connection)
