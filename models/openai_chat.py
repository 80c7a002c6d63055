"""A chat model behind any OpenAI-compatible server: vLLM, SGLang, llama.cpp, hosted ones.

All that name the same model at the same address share its slots (`chat_server.py`), whatever else they are set to. A
call keeps its replies, the bodies of the requests in flight, and nothing else.

What an error means is said in `server_faults.py`. `generate` finishes all other requests before it raises a row's
SampleError, and keeps their replies: the quarantine boundary then halves the batch until the bad row stands alone, and
each half is answered from what is kept, so nothing is paid twice. An error raised this way works with every caller of
the seam; an error inside the reply would have to be checked by each of them.
"""

import asyncio
import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import httpx
from PIL import Image as PilImage

from models.chat import ChatReply, ChatRequest
from models.chat_server import ChatServer
from models.encoders import encoders
from models.in_flight import is_overloaded, one_for
from models.kept_replies import KeptReplies
from models.openai_connections import Connection
from models.openai_wire import JPEG_QUALITY, OF_THE_ROW, Body, Sizes, error_of, read_reply, retry_after_s
from models.server_faults import OF_ACCESS, Key, Refusal, Trouble, is_trouble, way_out
from models.settings import ServerSettings
from storage.errors import FatalError, SampleError, TransientError
from storage.records.ids import content_id, sha256_hex
from storage.transport import check_trusted

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
_SAID_FROM_S = 5.0  # a pause that a server asks for is told from here on
_LATELY_S = 60.0  # an answer as old as this shows that the set-up is right
_SMALL_PX = 128 * 128  # encoded at once: a thread would cost more than the work
_AHEAD = 8  # requests that are ready for the next free slot: it does not wait for an image to be encoded
log = logging.getLogger(__name__)

_Outcome = ChatReply | SampleError | TransientError
_Result = TypeVar("_Result")


class OpenAIChat:
    """Calls `POST {base_url}/chat/completions`.

    The server's key is read when needed and stands in no message. `revision` is the user's own word for the weights
    behind `model`, which a server does not tell. Images larger than `max_pixels` are scaled down before sending.
    `image_transport` is "data_uri", or a function that puts a picture file (bytes, and what follows `image/` in its
    media type) where the server can fetch it and returns the URL. A request's own files are sent as they are; other
    images as JPEG of quality 95. Raises FatalError when the variable with the key is not set.
    """

    def __init__(
        self,
        model: str,
        server: ServerSettings,
        *,
        revision: str | None = None,
        image_transport: Literal["data_uri"] | Callable[[bytes, str], str] = "data_uri",
    ) -> None:
        self._url = httpx.URL(server.base_url.rstrip("/") + "/chat/completions")
        self._host = self._url.host  # messages name the host alone: a URL may hold a password
        self._model, self._server = model, server
        self._body = Body(model, server.max_pixels, image_transport)
        # The address is left out: the same model on another port gives the same answers.
        self._fingerprint = content_id("openai", model, revision, server.max_pixels, JPEG_QUALITY)
        self._kept = KeptReplies()
        self._lock = threading.Lock()
        self._shared = one_for(ChatServer, server.base_url, model, server.max_in_flight)
        self._takes_schemas = True  # until the server refuses one
        self._last_success = -math.inf  # when a request was sent that was answered
        self._failed_probe: tuple[float, Exception] = (-math.inf, Exception())
        self._probing = asyncio.Lock()
        self._key = Key(server.api_key_env, self._host)
        self._key.read()

    @property
    def fingerprint(self) -> str:
        """Changes with the model's name, the revision given and what is done to images; not with the address."""
        return self._fingerprint

    def generate(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """Answers all requests; calls from several threads share `max_in_flight`.

        Raises FatalError, TransientError or SampleError as the module says. After a SampleError or a
        TransientError, the requests that succeeded are answered from memory when they are asked again.
        """
        return self._kept.settle(self._shared.run(self._all(requests)))

    def close(self) -> None:
        """Closes the server's connections and event loop; a later call of `generate` opens them anew."""
        self._shared.close()
        self._probing = asyncio.Lock()  # the one before belongs to the loop that ended

    async def _all(self, requests: Sequence[ChatRequest]) -> list[tuple[str, _Outcome]]:
        count = min(self._server.max_in_flight, len(requests))
        done: dict[int, tuple[str, _Outcome]] = {}
        began = time.monotonic()
        call = self._shared.next_call()
        left = iter(enumerate(requests))
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(count + _AHEAD):
                    group.create_task(self._worker(call, left, done))
                    await asyncio.sleep(0)  # the first requests are sent before the last ones are encoded
        except BaseExceptionGroup as raised:
            raise raised.exceptions[0] from None
        outcomes = [done[index] for index in range(len(requests))]
        asked = [outcome for key, outcome in outcomes if self._kept.get(key) is None]
        if asked and all(isinstance(outcome, SampleError) for outcome in asked):
            await self._check_answers_others(requests[0], asked[0], began)
        return outcomes

    async def _check_answers_others(self, like: ChatRequest, refusal: _Outcome, began: float) -> None:
        """Rows alone are at fault only at a server that answers something."""
        if self._last_success > began:
            return
        async with self._shared.slot(self._shared.next_call()) as connection:
            trouble = await self._probe(connection, like, began)
        if isinstance(trouble, Trouble):
            raise TransientError(f"{self._host} gives no usable answer: {trouble}.")
        if trouble is not None:
            raise FatalError(f"The model server {self._host} answers no request, not even a small one: {refusal}")

    async def _worker(
        self, call: int, left: Iterator[tuple[int, ChatRequest]], done: dict[int, tuple[str, _Outcome]]
    ) -> None:
        """Takes request after request. Its body is made in a thread, while the slots answer others."""
        loop = asyncio.get_running_loop()
        for index, request in left:
            if sum(image.width * image.height for image in request.images) <= _SMALL_PX:
                key, body, sizes = self._prepare(request)
            else:
                key, body, sizes = await loop.run_in_executor(encoders(), self._prepare, request)
            kept = self._kept.get(key)
            if kept is not None:
                done[index] = (key, kept)
                continue
            async with self._shared.slot(call) as connection:
                done[index] = (key, await self._answer(connection, request, body, sizes))

    def _prepare(self, request: ChatRequest) -> tuple[str, bytes, Sizes]:
        """A request's hash, its bytes, and the sizes of its images as sent."""
        body, sizes = self._body.of(request if self._takes_schemas else replace(request, schema=None))
        return sha256_hex(body), body, sizes

    async def _answer(self, connection: Connection, request: ChatRequest, body: bytes, sizes: Sizes) -> _Outcome:
        """One request through all its attempts; raises FatalError when the server takes no request of this kind."""
        last = Trouble("chat_failed", "")
        for attempt in range(self._server.attempts):
            await self._shared.silence()
            sent = time.monotonic()
            try:
                return await self._attempt(connection, body, sizes)
            except SampleError as error:
                return error
            except Refusal as refusal:
                return await self._judged(connection, request, refusal, sent)
            except Trouble as trouble:
                last = trouble
                self._wait_as_told(trouble.wait_s)
            if attempt + 1 < self._server.attempts:
                longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2**attempt)
                await asyncio.sleep(longest * random.uniform(0.5, 1.0))  # jitter: not all come back at once
        detail = f"{self._host} gave no answer in {self._server.attempts} attempts; the last time: {last.why}."
        if await self._probe(connection, request, time.monotonic()) is not None:
            return TransientError(detail)
        try:  # the server is well again: this was an outage, or it is the row
            return await self._attempt(connection, body, sizes)
        except Trouble as trouble:
            return SampleError(trouble.code, f"{detail} It answers other requests.")
        except SampleError as error:
            return error
        except Refusal as refusal:
            return refusal.refused

    async def _without_schema(self, connection: Connection, request: ChatRequest) -> _Outcome:
        """The outcome of a refused request without its schema; if that is an answer, the server takes no schemas."""
        plain = replace(request, schema=None)
        outcome = await self._answer(connection, plain, *self._body.of(plain))
        self._takes_schemas = self._takes_schemas and not isinstance(outcome, ChatReply)
        return outcome

    async def _attempt(self, connection: Connection, body: bytes, sizes: Sizes) -> ChatReply:
        """One request, sent once. Raises Trouble, Refusal, or a SampleError that the server words itself."""
        sent = time.monotonic()
        try:
            async with asyncio.timeout(self._server.timeout_s):
                response = await connection.send(self._url, self._key.headers(), body)
        except TimeoutError as error:
            self._shared.allowance.note(overloaded=True)
            raise Trouble("chat_failed", f"no answer within {self._server.timeout_s:g} s") from error
        except httpx.RequestError as error:
            check_trusted(error, self._host)
            raise Trouble("chat_failed", f"the connection failed ({type(error).__name__})") from error
        status = response.status_code
        self._shared.allowance.note(overloaded=is_overloaded(status))
        if status == 200:
            reply = read_reply(response.content, sizes, time.monotonic() - sent)
            self._last_success = max(self._last_success, sent)  # what was sent before an outage says nothing of it
            return reply
        code, said = error_of(response)
        said = self._key.hidden(said)
        if is_trouble(status):
            pause_s = retry_after_s(response.headers.get("retry-after"))
            raise Trouble("chat_failed", f"HTTP {status}" + (f" ({said})" if said else ""), pause_s)
        if code in OF_THE_ROW:
            raise SampleError(OF_THE_ROW[code], said)
        raise Refusal(status, said, SampleError("chat_bad_request", f"HTTP {status}: {said}"))

    async def _judged(self, connection: Connection, request: ChatRequest, refusal: Refusal, sent: float) -> _Outcome:
        """Whose fault a refusal is: the row's where the server answers others. With a schema it is asked again without,
        which may be the answer."""
        if request.schema is not None:
            return await self._without_schema(connection, request)
        since = sent if refusal.status in OF_ACCESS else sent - _LATELY_S
        trouble = None if self._last_success > since else await self._probe(connection, request, sent)
        if trouble is None:
            return refusal.refused
        if isinstance(trouble, Trouble):
            return TransientError(f"{self._host} gives no usable answer: {trouble}.")
        raise FatalError(
            f"The model server {self._host} answered HTTP {refusal.status} for model {self._model}: {refusal.said} "
            f"{way_out(refusal.status)}"
        )

    async def _probe(self, connection: Connection, like: ChatRequest, since: float) -> Exception | None:
        """Why a small request of the same kind is not answered; None where it is, or another was since then."""
        images = (PilImage.new("RGB", (64, 64), (128, 128, 128)),) if like.images else ()
        body, sizes = self._body.of(replace(like, prompt="Answer with the word yes.", images=images, schema=None))
        async with self._probing:
            if self._last_success > since:
                return None
            if self._failed_probe[0] > since:
                return self._failed_probe[1]
            sent = time.monotonic()
            try:
                await self._attempt(connection, body, sizes)
            except (Trouble, Refusal, SampleError) as error:
                self._failed_probe = (sent, error)
                return error
        return None

    def _wait_as_told(self, pause_s: float) -> None:
        if pause_s >= _SAID_FROM_S:
            log.warning("%s asks for a pause of %.0f s.", self._host, pause_s)
        self._shared.be_silent(pause_s)
