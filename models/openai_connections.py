"""Connections to an OpenAI-compatible server, one for each request in flight."""

import asyncio
import base64
import heapq
import itertools
import ssl
from collections.abc import Mapping
from urllib.request import getproxies, proxy_bypass

import httpx

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Connection:
    """Sends one request at a time; opens the connection anew when the server closed it.

    The transport below httpx's client, because the client's own part (cookies, redirects, authentication) costs a
    third of a request's processor time. And one of its own, because a shared pool looks at all of its connections
    for each request, which at 64 costs ten times as much as everything else.
    """

    def __init__(self, base: httpx.URL, tls: ssl.SSLContext) -> None:
        alone = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        self._transport = httpx.AsyncHTTPTransport(verify=tls, limits=alone, proxy=proxy_of(base))

    async def send(self, method: str, url: httpx.URL, headers: Mapping[str, str], body: bytes = b"") -> httpx.Response:
        """The whole answer. Sets no time limit; raises httpx.TransportError."""
        response = await self._transport.handle_async_request(httpx.Request(method, url, headers=headers, content=body))
        try:
            await response.aread()
        finally:
            await response.aclose()
        return response

    async def close(self) -> None:
        """Hangs up; a later `send` fails."""
        await self._transport.aclose()


def headers_of(url: httpx.URL) -> dict[str, str]:
    """What every request says: who asks, and the name and password that a URL may hold."""
    headers = {"accept": "application/json", "user-agent": "guardset"}
    if url.userinfo:
        secret = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
        headers["authorization"] = f"Basic {secret}"
    return headers


def proxy_of(url: httpx.URL) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name for a URL; never one for this machine."""
    if url.host in _LOOPBACK or proxy_bypass(url.host):
        return None
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"  # httpx wants a scheme, other programs do not


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
