"""A chat model behind any OpenAI-compatible server: vLLM, SGLang, llama.cpp, hosted ones.

Requests run side by side in one event loop, which all threads that call `generate` share: while one thread decodes
its next images, another's requests fill the server's slots. A call keeps its replies, the bodies of the requests in
flight, and nothing else.

What an error means. A server that nobody can use (a wrong key, an unknown model) is a FatalError. A server that
answers nothing at all while a request is tried is a TransientError, so an outage empties no shard into quarantine.
A request that fails while others succeed is the row's own fault, a SampleError. `generate` finishes all other
requests before it raises that one, and keeps their replies: the quarantine boundary then halves the batch until
the bad row stands alone, and each half is answered from what is kept, so nothing is paid twice. An error raised
this way works with every caller of the seam; an error inside the reply would have to be checked by each of them.
"""

import asyncio
import math
import os
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar

import httpx
from PIL.Image import Image

from models.chat import ChatReply, ChatRequest
from models.openai_connections import Connection, Slots
from models.openai_wire import JPEG_QUALITY, Body, Sizes, error_of, read_reply, retry_after_s
from models.settings import ServerSettings
from storage.errors import FatalError, SampleError, TransientError
from storage.records.ids import content_id, sha256_hex

_RETRIED = frozenset({408, 409, 429})  # and every 5xx
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_PROBE_S = 10.0
_SMALL_PX = 128 * 128  # encoded at once: a thread would cost more than the work
_AHEAD = 8  # requests that are ready for the next free slot: it does not wait for an image to be encoded
_KEPT = 8192  # replies that wait to be asked for again after a failed call: a few MB of text
# Error codes with which hosted servers refuse one prompt although the request is well formed.
_OF_THE_ROW = {
    "content_filter": "chat_content_filter",
    "content_policy_violation": "chat_content_filter",
    "context_length_exceeded": "chat_too_long",
}

_Outcome = ChatReply | SampleError | TransientError
_Result = TypeVar("_Result")


class OpenAIChat:
    """Calls `POST {base_url}/chat/completions`.

    The server's key is read when needed and stands in no message. `revision` is the user's own word for the weights
    behind `model`, which a server does not tell. Images larger than `max_pixels` are scaled down before sending.
    `image_transport` is "data_uri" (JPEG, quality 95), or a function that puts an image where the server can fetch it
    and returns the URL. Raises FatalError when the variable with the key is not set.
    """

    def __init__(
        self,
        model: str,
        server: ServerSettings,
        *,
        revision: str | None = None,
        image_transport: Literal["data_uri"] | Callable[[Image], str] = "data_uri",
    ) -> None:
        self._url = httpx.URL(server.base_url.rstrip("/") + "/chat/completions")
        self._models = httpx.URL(server.base_url.rstrip("/") + "/models")
        self._host = self._url.host  # messages name the host alone: a URL may hold a password
        self._model, self._server = model, server
        self._body = Body(model, server.max_pixels, image_transport)
        # The address is left out: the same model on another port gives the same answers.
        self._fingerprint = content_id("openai", model, revision, server.max_pixels, JPEG_QUALITY)
        self._kept: OrderedDict[str, ChatReply | SampleError] = OrderedDict()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connections: list[Connection] = []
        self._slots = Slots()
        self._encoders = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="openai-chat-encode")
        self._tls = httpx.create_ssl_context()
        self._calls = 0
        self._not_before = 0.0  # time.monotonic() until which the server asked for silence
        self._last_success = -math.inf
        self._key()

    @property
    def fingerprint(self) -> str:
        """Changes with the model's name, the revision given and what is done to images; not with the address."""
        return self._fingerprint

    def generate(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """Answers all requests; calls from several threads share `max_in_flight`.

        Raises FatalError, TransientError or SampleError as the module says. After a SampleError or a
        TransientError, the requests that succeeded are answered from memory when they are asked again.
        """
        outcomes = self._run(self._all(requests))
        replies = [result for _, result in outcomes if isinstance(result, ChatReply)]
        with self._lock:
            if len(replies) == len(outcomes):
                for key, _ in outcomes:
                    self._kept.pop(key, None)
                return replies
            self._remember(outcomes)
        failed = [result for _, result in outcomes if not isinstance(result, ChatReply)]
        raise next((error for error in failed if isinstance(error, TransientError)), failed[0])

    def _remember(self, outcomes: Sequence[tuple[str, _Outcome]]) -> None:
        """Keeps what a failed call paid for; a bad row that stands alone is not asked again."""
        for key, result in outcomes:
            if not isinstance(result, TransientError):
                self._kept[key] = result
        if len(outcomes) == 1:
            self._kept.pop(outcomes[0][0], None)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def close(self) -> None:
        """Closes the connections and the event loop; a later call of `generate` opens them anew."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self._hang_up(), loop).result()
            loop.call_soon_threadsafe(loop.stop)

    async def _hang_up(self) -> None:
        for connection in self._connections:
            await connection.close()
        self._connections, self._slots = [], Slots()

    def _run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="openai-chat", daemon=True).start()
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # nothing is paid for after an interrupt
            raise

    def _key(self) -> str | None:
        """The key, read anew each time so that no object holds it."""
        if self._server.api_key_env is None:
            return None
        key = os.environ.get(self._server.api_key_env)
        if not key:
            raise FatalError(f"The model server {self._host} wants a key. Put it into {self._server.api_key_env}.")
        return key

    async def _all(self, requests: Sequence[ChatRequest]) -> list[tuple[str, _Outcome]]:
        count = min(self._server.max_in_flight, len(requests))
        while len(self._connections) < count:
            connection = Connection(self._url, self._tls)
            self._connections.append(connection)
            self._slots.give(connection)
        done: dict[int, tuple[str, _Outcome]] = {}
        self._calls += 1
        call = self._calls
        left = iter(enumerate(requests))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(count + _AHEAD):
                    group.create_task(self._worker(call, left, done))
                    await asyncio.sleep(0)  # the first requests are sent before the last ones are encoded
        except BaseExceptionGroup as raised:
            raise raised.exceptions[0] from None
        return [done[index] for index in range(len(requests))]

    async def _worker(
        self, call: int, left: Iterator[tuple[int, ChatRequest]], done: dict[int, tuple[str, _Outcome]]
    ) -> None:
        """Takes request after request. Its body is made in a thread, while the slots answer others."""
        loop = asyncio.get_running_loop()
        for index, request in left:
            if sum(image.width * image.height for image in request.images) <= _SMALL_PX:
                key, body, sizes = self._prepare(request)
            else:
                key, body, sizes = await loop.run_in_executor(self._encoders, self._prepare, request)
            kept = self._kept.get(key)
            if kept is not None:
                done[index] = (key, kept)
                continue
            connection = await self._slots.take(call)
            try:
                done[index] = (key, await self._answer(connection, body, sizes))
            finally:
                self._slots.give(connection)

    def _prepare(self, request: ChatRequest) -> tuple[str, bytes, Sizes]:
        """A request's hash, its bytes, and the sizes of its images as sent."""
        body, sizes = self._body.of(request)
        return sha256_hex(body), body, sizes

    async def _answer(self, connection: Connection, body: bytes, sizes: Sizes) -> _Outcome:
        """One request through all its attempts."""
        began, why = time.monotonic(), ""
        for attempt in range(self._server.attempts):
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            sent = time.monotonic()
            try:
                async with asyncio.timeout(self._server.timeout_s):
                    response = await connection.send("POST", self._url, self._headers(), body)
            except TimeoutError:
                why, response = f"no answer within {self._server.timeout_s:g} s", None
            except httpx.TransportError as error:
                why, response = f"the connection failed ({type(error).__name__})", None
            if response is not None and response.status_code not in _RETRIED and response.status_code < 500:
                self._last_success = time.monotonic()
                return self._read(response, sizes, self._last_success - sent)
            if response is not None:
                _, said = self._said(response)
                why = f"HTTP {response.status_code}" + (f" ({said})" if said else "")
                self._wait_as_told(response)
            if attempt + 1 < self._server.attempts:
                longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt)
                await asyncio.sleep(longest * random.uniform(0.5, 1.0))  # jitter: not all come back at once
        detail = f"{self._host} gave no answer in {self._server.attempts} attempts; the last time: {why}."
        # It is the request's own fault only when the server answered others meanwhile and is up now: an outage
        # in the middle of a batch must not send the batch's second half to quarantine.
        if self._last_success > began and await self._is_up(connection):
            return SampleError("chat_failed", detail)
        return TransientError(detail)

    async def _is_up(self, connection: Connection) -> bool:
        """Whether the server answers the list of its models, or says at least that it has none."""
        try:
            async with asyncio.timeout(_PROBE_S):
                return (await connection.send("GET", self._models, self._headers())).status_code < 500
        except (TimeoutError, httpx.TransportError):
            return False

    def _headers(self) -> dict[str, str]:
        key = self._key()
        return {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})

    def _wait_as_told(self, response: httpx.Response) -> None:
        pause_s = retry_after_s(response.headers.get("retry-after"))
        self._not_before = max(self._not_before, time.monotonic() + pause_s)

    def _said(self, response: httpx.Response) -> tuple[str, str]:
        """An error's code and message, without the key: servers echo it."""
        code, said = error_of(response)
        key = self._key()
        return code, said.replace(key, "***") if key else said

    def _read(self, response: httpx.Response, sizes: Sizes, latency_s: float) -> _Outcome:
        """A reply, or the row's error; raises FatalError when the server takes no request of this kind."""
        if response.status_code == 200:
            return read_reply(response.content, sizes, latency_s)
        code, said = self._said(response)
        if code in _OF_THE_ROW:
            return SampleError(_OF_THE_ROW[code], said)
        if response.status_code in (413, 422):
            return SampleError("chat_bad_request", f"HTTP {response.status_code}: {said}")
        raise FatalError(
            f"The model server {self._host} answered HTTP {response.status_code} for model {self._model}: {said} "
            f"{_WAYS_OUT.get(response.status_code, 'Check the address and the settings.')}"
        )


_WAYS_OUT = {
    400: "Check the model's name and the settings, such as max_new_tokens.",
    401: "Check the key in the environment.",
    403: "Check what the key is allowed to do.",
    404: "Check the address (most end in /v1) and the model's name.",
}
