"""Editing through an OpenAI-compatible endpoint: `POST {base}/images/edits`, multipart."""

import logging
import math
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from models.answer_size import fitted
from models.image_edit import ImageEdit
from models.image_wire import Form, Placed, form_of, picture_in, placed
from models.in_flight import Places, is_overloaded, one_for
from models.openai_wire import error_of, retry_after_s
from models.server_faults import MAX_REPLY_BYTES, OF_ACCESS, Key, Refusal, Trouble, is_trouble
from models.settings import PictureSettings
from storage.errors import FatalError, SampleError, TransientError
from storage.images import Rgb, decode
from storage.records.ids import content_id
from storage.transport import check_trusted, tls

log = logging.getLogger(__name__)
_LATELY_S = 60.0  # a picture that was edited since shows that the endpoint is well
_MOST_PIXELS = 32_000_000  # of an answer; servers make up to 8 megapixels


@dataclass(frozen=True)
class Patience:
    """How long is waited between two attempts, doubled each time, and how large an answer may be."""

    first_wait_s: float = 1.0
    max_wait_s: float = 60.0
    max_reply_bytes: int = MAX_REPLY_BYTES


_Outcome = Rgb | SampleError | Trouble | Refusal


class OpenAIImages:
    """An `ImageEditor` over HTTP, whose form is that of the server's flavour (`image_wire.py`). Pictures go as PNG.

    The endpoint's prompt is the edit's instruction where there is one. An answer may hold its picture, or an address of
    it, which is read within the attempt's time and with the key only where it is the endpoint's own.

    Whose fault a failure is follows from `server_faults.py`. What is refused: `editor_refused` (with the server's
    words), `editor_timeout`, `editor_wrong_size`, `editor_bad_reply`, and `editor_unavailable` when the retries were
    spent on this picture while others were edited. Raises TransientError when no picture of the call could be edited,
    nor a small one, and FatalError when the address, the key or the model is wrong; messages name the host alone,
    because an address may hold a password.
    """

    def __init__(self, settings: PictureSettings, patience: Patience | None = None) -> None:
        if settings.endpoint is None:
            raise ValueError("The settings name no endpoint.")
        self._settings, self._endpoint, self._patience = settings, settings.endpoint, patience or Patience()
        if settings.size_px is None:
            raise FatalError("An endpoint does not say its size. Set editing.edit.size_px, such as 1024.")
        self._size_px, self._host = settings.size_px, httpx.URL(self._endpoint.base_url).host
        self._url = httpx.URL(f"{self._endpoint.base_url.rstrip('/')}/images/edits")
        self._client = httpx.Client(verify=tls(), follow_redirects=False)
        self._own_size = False
        self._jitter = random.Random()
        self._places = one_for(Places, self._endpoint.base_url, settings.model, self._endpoint.max_in_flight)
        self._last_edited = -math.inf
        self._key = Key(self._endpoint.api_key_env, self._host)
        self._key.read()

    @property
    def fingerprint(self) -> str:
        """Changes with the model's name, the revision given and the form fields; not with the address."""
        return content_id("openai-images", self._settings.decided_by())

    @property
    def size_px(self) -> int:
        """The side of the squares that the model is asked for."""
        return self._size_px

    @property
    def own_size(self) -> bool:
        """Whether an answer had another size than asked for, so far."""
        return self._own_size

    def edit(self, edits: Sequence[ImageEdit]) -> list[Rgb | SampleError]:
        """Repaints each picture. See `ImageEditor`."""
        if not edits:
            return []
        stop = threading.Event()
        pool = ThreadPoolExecutor(self._endpoint.max_in_flight)
        try:
            outcomes = list(pool.map(lambda edit: self._edit(edit, stop), edits))
        finally:
            stop.set()  # after a FatalError nobody waits for the retries of the others
            pool.shutdown(cancel_futures=True)
        asked = [outcome for edit, outcome in zip(edits, outcomes, strict=True) if edit.mask.any()]
        if any(isinstance(outcome, np.ndarray) for outcome in asked):
            self._last_edited = time.monotonic()
        elif asked and (any(map(_may_be_the_endpoint, asked)) or time.monotonic() - self._last_edited > _LATELY_S):
            self._check_edits_others(edits[0].mask.shape, asked)
        return [_refused(outcome) for outcome in outcomes]

    def _check_edits_others(self, shape: tuple[int, ...], outcomes: Sequence[_Outcome]) -> None:
        """Pictures alone are at fault only at an endpoint that edits something: it is given a plain one."""
        mask = np.zeros(shape, dtype=np.bool_)
        mask[shape[0] // 4 : shape[0] // 2, shape[1] // 4 : shape[1] // 2] = True
        plain = ImageEdit(np.full((*shape, 3), 128, dtype=np.uint8), mask, "a plain grey wall", 0)
        found = self._attempt(*self._request(plain))
        if isinstance(found, np.ndarray):
            return
        refusal = next((one for one in (*outcomes, found) if isinstance(one, Refusal)), None)
        if refusal is not None:
            raise FatalError(
                f"The image endpoint at {self._host} answers {refusal.status}: {refusal.said} "
                f"Check the address, the model {self._settings.model!r} and the key."
            )
        if isinstance(found, Trouble):
            raise TransientError(f"The image endpoint at {self._host} is not available: {found}.")
        raise FatalError(f"The image endpoint at {self._host} edits no picture, not even a plain one: {found}")

    def _edit(self, edit: ImageEdit, stop: threading.Event) -> _Outcome:
        """One picture, with retries until `stop` is set."""
        if not edit.mask.any():
            return SampleError("editor_no_codec", "An endpoint cannot pass a picture through its codec alone.")
        sent, form = self._request(edit)
        outcome: _Outcome = SampleError("editor_unavailable")
        for attempt in range(self._endpoint.attempts):
            with self._places.one():
                outcome = self._attempt(sent, form)
            if isinstance(outcome, Refusal) and outcome.status in OF_ACCESS:
                stop.set()
            if not isinstance(outcome, Trouble) or outcome.code == "editor_timeout":  # it would take as long again
                return outcome
            log.info("Image endpoint, attempt %d of %d: %s", attempt + 1, self._endpoint.attempts, outcome)
            if attempt + 1 < self._endpoint.attempts and stop.wait(self._wait_s(attempt, outcome.wait_s)):
                break
        return outcome

    def _request(self, edit: ImageEdit) -> tuple[Placed, Form]:
        sent = placed(edit, self._endpoint.flavour, self._size_px)
        files, fields = form_of(sent.edit, self._settings, self._endpoint.flavour)
        return sent, (files, fields | self._endpoint.extra)

    def _attempt(self, sent: Placed, form: Form) -> _Outcome:
        files, fields = form
        end = time.monotonic() + self._endpoint.timeout_s
        try:
            key = self._key.headers()
            reply = self._received(self._url, end, method="POST", files=files, data=fields, headers=key)
            self._check_answered(reply)
            return sent.cut(self._picture(self._bytes(picture_in(reply.content), end), sent.canvas))
        except (SampleError, Trouble, Refusal) as error:
            return error

    def _wait_s(self, attempt: int, asked_s: float) -> float:
        grown = self._patience.first_wait_s * 2.0**attempt * self._jitter.uniform(0.5, 1.0)
        return min(self._patience.max_wait_s, max(grown, asked_s))

    def _received(self, url: httpx.URL, end: float, **request: Any) -> httpx.Response:
        """A whole answer, before the monotonic time `end` from first byte to last."""
        body, left_s = bytearray(), max(0.001, end - time.monotonic())
        try:
            with self._client.stream(url=url, timeout=left_s, **request) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if time.monotonic() > end:  # a reply that drips would restart httpx's own clock for ever
                        raise self._too_late()
                    if len(body) > self._patience.max_reply_bytes:
                        raise Trouble("editor_bad_reply", f"more than {self._patience.max_reply_bytes} bytes")
                pause = {"retry-after": response.headers.get("retry-after", "")}
                return httpx.Response(response.status_code, headers=pause, content=bytes(body))
        except httpx.ConnectTimeout as error:
            raise Trouble("editor_unavailable", type(error).__name__) from error
        except httpx.TimeoutException as error:
            raise self._too_late() from error
        except httpx.RequestError as error:
            check_trusted(error, self._host)
            raise Trouble("editor_unavailable", type(error).__name__) from error

    def _too_late(self) -> Trouble:
        self._places.allowance.note(overloaded=True)
        return Trouble("editor_timeout", f"no whole answer within {self._endpoint.timeout_s:g} s")

    def _check_answered(self, reply: httpx.Response) -> None:
        """Raises what a status other than 200 means."""
        status = reply.status_code
        self._places.allowance.note(overloaded=is_overloaded(status))
        if is_trouble(status):
            pause_s = retry_after_s(reply.headers.get("retry-after"))
            raise Trouble("editor_unavailable", f"status {status}", pause_s)
        if status != 200:
            said = self._key.hidden(error_of(reply)[1])
            raise Refusal(status, said, SampleError("editor_refused", f"Status {status}: {said}"))

    def _bytes(self, found: bytes | str, end: float) -> bytes:
        """A picture's bytes, read from its address where that is what the answer gave; it may be relative."""
        if isinstance(found, bytes):
            return found
        try:
            url = self._url.join(found)
            host = url.host  # decoded when it is asked for
        except (httpx.InvalidURL, UnicodeError) as error:
            raise Trouble("editor_bad_reply", f"the picture's address is not a valid URL ({found[:80]!r})") from error
        if url.scheme not in ("http", "https"):
            raise Trouble("editor_bad_reply", f"the picture's address is not of the web ({found[:80]!r})")
        is_own = (url.scheme, host, url.port) == (self._url.scheme, self._url.host, self._url.port)
        with_key = {"headers": self._key.headers()} if is_own else {"follow_redirects": True}
        reply = self._received(url, end, method="GET", **with_key)
        if reply.status_code != 200:
            raise Trouble("editor_bad_reply", f"the picture's address answers {reply.status_code}")
        return reply.content

    def _picture(self, data: bytes, shape: tuple[int, int]) -> Rgb:
        """The picture, scaled to the (height, width) that was asked for where it has the same proportions."""
        try:
            rgb = decode(data, max_pixels=_MOST_PIXELS).rgb
        except SampleError as error:
            raise Trouble("editor_bad_reply", f"the answer is no usable picture: {error}") from error
        self._own_size = self._own_size or rgb.shape[:2] != shape
        return fitted(rgb, shape)


def _may_be_the_endpoint(outcome: _Outcome) -> bool:
    """Whether a failure says something of the endpoint, even if it edited others a moment ago."""
    return isinstance(outcome, Trouble) or (isinstance(outcome, Refusal) and outcome.status in OF_ACCESS)


def _refused(outcome: _Outcome) -> Rgb | SampleError:
    """What a picture's last attempt means, at an endpoint that edits others."""
    if isinstance(outcome, Trouble):
        return SampleError(outcome.code, f"All attempts failed, the last with {outcome}.")
    return outcome.refused if isinstance(outcome, Refusal) else outcome
