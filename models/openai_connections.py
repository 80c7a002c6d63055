"""Connections to an OpenAI-compatible server, one for each request in flight."""

import asyncio
import heapq
import itertools
import ssl
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from models.in_flight import Allowance
from models.server_faults import MAX_REPLY_BYTES
from storage.errors import FatalError
from storage.transport import check_trusted, tls

_LISTED_WITHIN_S = 15.0


def served_models(base_url: str, key: str = "", *, within_s: float = _LISTED_WITHIN_S) -> list[str] | None:
    """The names of `listed_models`."""
    listed = listed_models(base_url, key, within_s=within_s)
    return None if listed is None else [str(entry["id"]) for entry in listed]


def listed_models(
    base_url: str, key: str = "", *, within_s: float = _LISTED_WITHIN_S
) -> list[Mapping[str, Any]] | None:
    """What a server lists, each with its `id`; None where it has no such list (404, 405), which says nothing about its
    answers.

    Raises FatalError that says what was answered instead. Messages name the host alone, because an address may hold a
    password.
    """
    url = httpx.URL(f"{base_url.rstrip('/')}/models")
    host = url.host if url.port is None else f"{url.host}:{url.port}"
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        reply = httpx.get(url, headers=headers, timeout=within_s, verify=tls())
    except httpx.TimeoutException as error:
        raise FatalError(
            f"{host} did not answer within {within_s:g} s. It may still be loading its model: wait until its log says "
            "that it is ready."
        ) from error
    except httpx.HTTPError as error:
        check_trusted(error, host)
        raise FatalError(f"No server answers at {host} ({error}). Start it, or correct base_url.") from error
    if reply.status_code in (404, 405):
        return None
    if reply.status_code in (401, 403):
        way_out = "Correct the key in the variable" if key else "It may want a key: name the variable that holds it"
        raise FatalError(f"{host} answers {reply.status_code}. {way_out}, api_key_env.")
    try:
        listed = list(reply.raise_for_status().json()["data"])
        _ = [entry["id"] for entry in listed]
        return listed
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        kind = reply.headers.get("content-type", "").split(";")[0] or "no content type"
        words = " ".join(reply.text.split())[:80]
        said = repr(words.replace(key, "***") if key else words)
        raise FatalError(
            f"{host} answers its list of models with {reply.status_code}, {kind}, {said}. {_way_out(reply, kind)}"
        ) from error


def _way_out(reply: httpx.Response, kind: str) -> str:
    """What to do about an answer that is no list of models."""
    if reply.has_redirect_location:
        to = reply.headers["location"].split("?")[0]
        return f"It sends its callers to {to}: put the address that it means into base_url."
    if reply.status_code == 429:
        return "It has too many requests at the moment: wait, and try again."
    if reply.status_code >= 500:
        return "It, or a proxy before it, is in trouble or still starting: look at its log, and try again."
    if kind == "text/html":
        return "That is a page for people. Give the address of the API in base_url; it mostly ends in /v1."
    return 'A list of models is JSON, {"data": [{"id": "name"}]}. Correct base_url; it mostly ends in /v1.'


class Connection:
    """Sends one request at a time; opens the connection anew when the server closed it.

    A client for each, because a shared pool looks at all of its connections for each request, which at 64 costs ten
    times as much as everything else.
    """

    def __init__(self, trusted: ssl.SSLContext) -> None:
        alone = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        says = {"accept": "application/json", "content-type": "application/json", "user-agent": "guardset"}
        self._client = httpx.AsyncClient(verify=trusted, limits=alone, headers=says, timeout=None)

    async def send(self, url: httpx.URL, headers: Mapping[str, str], body: bytes) -> httpx.Response:
        """The whole answer to a POST. Sets no time limit; raises httpx.RequestError, also for an answer that is larger
        than `MAX_REPLY_BYTES`, or is not in the encoding that it claims."""
        async with self._client.stream("POST", url, headers=headers, content=body) as response:
            content = bytearray()
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > MAX_REPLY_BYTES:
                    raise httpx.DecodingError(f"more than {MAX_REPLY_BYTES >> 20} MB")
        kept = {name: response.headers[name] for name in ("retry-after", "content-type") if name in response.headers}
        return httpx.Response(response.status_code, headers=kept, content=bytes(content))

    async def close(self) -> None:
        """Hangs up; a later `send` fails."""
        await self._client.aclose()


class Slots:
    """Connections, as many in flight as the server's allowance. Who asks for one in an earlier call of `generate` gets
    it first.

    With equal shares, two calls would end at the same moment, and the server would idle while both callers
    prepare their next.
    """

    def __init__(self, allowance: Allowance, connect: Callable[[], Connection]) -> None:
        self._allowance, self._connect = allowance, connect
        self._free: list[Connection] = []
        self._waiting: list[tuple[int, int, asyncio.Future[Connection]]] = []
        self._tickets, self._in_flight = itertools.count(), 0

    async def take(self, call: int) -> Connection:
        """A connection, as soon as one may be used; to be given back."""
        promise: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (call, next(self._tickets), promise))
        self._serve()
        try:
            return await promise
        except asyncio.CancelledError:
            if promise.done() and not promise.cancelled():  # given and cancelled in the same turn of the loop
                self.give(promise.result())
            raise

    def give(self, connection: Connection) -> None:
        """Make a connection free: for the one who waits longest in the earliest call, if anybody waits."""
        self._free.append(connection)
        self._in_flight -= 1
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._in_flight < self._allowance.allowed:
            *_, promise = heapq.heappop(self._waiting)
            if not promise.done():
                self._in_flight += 1
                promise.set_result(self._free.pop() if self._free else self._connect())
