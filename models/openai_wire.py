"""What goes over the wire to an OpenAI-compatible server, and what comes back."""

import base64
import io
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import httpx
import numpy as np
from PIL import Image as PilImage
from PIL.Image import Image

from models.chat import ChatReply, ChatRequest
from models.server_faults import LONGEST_ASKED_S, Trouble
from storage.errors import SampleError
from storage.images import decoded, encode_png
from storage.validation import valid_text

JPEG_QUALITY = 95
OF_THE_ROW = {
    "content_filter": "chat_content_filter",
    "content_policy_violation": "chat_content_filter",
    "context_length_exceeded": "chat_too_long",
}
"""Error codes with which servers refuse one prompt although the request is well formed."""
_TOO_LONG = re.compile(  # vLLM, SGLang, llama.cpp and LiteLLM say it in words, a parameter or a type
    r"maximum context length|model's context length|requested token count exceeds|exceed_context_size|"
    r"contextwindowexceeded|context_length_exceeded|input_(?:tokens|text)\b",
    re.IGNORECASE,
)
_FILTERED = re.compile(r"contentpolicyviolation|content_policy_violation|\bmoderation\b", re.IGNORECASE)

_BROKEN_OFF = ("error", "abort", "cancelled")  # finish reasons of an answer that has no end
_MOST_TOKENS = 100_000_000
Sizes = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Body:
    """How a request becomes JSON."""

    model: str
    max_pixels: int | None
    transport: Literal["data_uri"] | Callable[[bytes, str], str]

    def of(self, request: ChatRequest) -> tuple[bytes, Sizes]:
        """The request's bytes, and (width, height) of its images as sent."""
        pictures = [self._picture(request, number) for number in range(len(request.images))]
        images = [image for image, _, _ in pictures]
        send = data_uri if self.transport == "data_uri" else self.transport
        urls = [send(data, kind) for _, data, kind in pictures]
        content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        if request.prompt:
            content.append({"type": "text", "text": request.prompt})
        turns: list[dict[str, Any]] = [{"role": "user", "content": content if images else request.prompt}]
        if request.system:
            turns.insert(0, {"role": "system", "content": request.system})
        body: dict[str, Any] = {
            "model": self.model,
            "messages": turns,
            "max_tokens": request.max_new_tokens,
            "temperature": request.temperature,
        }
        if request.temperature > 0:
            body["seed"] = request.seed
        if request.arguments:
            body["chat_template_kwargs"] = dict(request.arguments)
        if request.first_tokens:
            body |= {"logprobs": True, "top_logprobs": request.first_tokens}
        if request.schema is not None:
            schema = {"name": "answer", "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        return json.dumps(body).encode(), tuple(image.size for image in images)

    def _picture(self, request: ChatRequest, number: int) -> tuple[Image, bytes, str]:
        """An image as sent: pixels, file, and media type. A request's own file goes as it is, and scaled down as PNG,
        so that nothing is lost but pixels; without one the pixels go as JPEG."""
        image = decoded(request.images[number])
        small = fit(image, self.max_pixels)
        if not request.files:
            return small, jpeg(small), "jpeg"
        if small is image:
            return image, request.files[number], media_type(request.files[number])
        return small, encode_png(np.asarray(small)), "png"


def fit(image: Image, max_pixels: int | None) -> Image:
    """The image scaled down to at most `max_pixels`, its aspect kept."""
    width, height = image.size
    if max_pixels is None or width * height <= max_pixels:
        return image
    scale = math.sqrt(max_pixels / (width * height))
    size = max(1, math.floor(width * scale)), max(1, math.floor(height * scale))
    return image.resize(size, PilImage.Resampling.BICUBIC)


def jpeg(image: Image) -> bytes:
    """The image as JPEG, since a PNG of a photograph costs ten times the time and the bytes."""
    out = io.BytesIO()
    image.save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return out.getvalue()


def media_type(data: bytes) -> str:
    """What follows `image/` in the media type of a JPEG or PNG file; by its first bytes."""
    return "jpeg" if data.startswith(b"\xff\xd8") else "png"


def data_uri(data: bytes, kind: str) -> str:
    """A picture file as a data URI; `kind` follows `image/`."""
    return f"data:image/{kind};base64," + base64.b64encode(data).decode()


def retry_after_s(header: str | None) -> float:
    """Seconds to wait as a `Retry-After` header says (RFC 9110, 10.2.3: seconds or a date), at most `LONGEST_ASKED_S`;
    0 without a usable one."""
    if header is None:
        return 0.0
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
        except ValueError:
            return 0.0
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return min(max(0.0, seconds), LONGEST_ASKED_S) if math.isfinite(seconds) else 0.0


def read_reply(content: bytes, sizes: Sizes, latency_s: float) -> ChatReply:
    """The reply in a 200 answer. Raises SampleError where the server says that this request is not answered
    (`chat_content_filter`, `chat_too_long`, `chat_refused`), and Trouble for whatever is no chat completion."""
    try:
        answer = json.loads(content)
        if answer.get("error"):
            raise _trouble_of(answer)
        choice = answer["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text, refusal = _text_of(message, finish), message.get("refusal")
        if finish == "content_filter":
            raise SampleError("chat_content_filter", "The server's content filter stopped the answer.")
        if refusal:
            raise SampleError("chat_refused", valid_text(str(refusal))[:200])
        if not isinstance(text, str) or finish in _BROKEN_OFF:
            raise TypeError("no text")
        usage = answer.get("usage")
        counts = usage if isinstance(usage, Mapping) else {}
        tokens = _count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens"))
        firsts = _first_tokens(choice)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        head = " ".join(content[:80].decode(errors="replace").split())
        raise Trouble("chat_bad_reply", f"a 200 that is no chat completion ({head!r})") from error
    reason: Literal["stop", "length"] = "length" if finish == "length" else "stop"
    return ChatReply(valid_text(text).strip(), reason, sizes, *tokens, latency_s, firsts)


def _first_tokens(choice: Mapping[str, Any]) -> dict[str, float]:
    """Candidates for the first token with their log-probabilities; empty where the server gives none. One that stands
    there twice, spelt alike in other bytes, keeps the likelier."""
    told = (choice.get("logprobs") or {}).get("content") or [{}]
    found: dict[str, float] = {}
    for one in told[0].get("top_logprobs") or ():
        token, value = valid_text(str(one["token"])), float(one["logprob"])
        if value <= 0:  # also leaves out NaN
            found[token] = max(value, found.get(token, -math.inf))
    return found


def _text_of(message: Mapping[str, Any], finish: Any) -> Any:
    """The answer's words: a string, or a list of parts of which some are text. What was cut while the model still
    thought, in a field of its own, has none."""
    content = message.get("content")
    if isinstance(content, list) and content and all(isinstance(part, Mapping) for part in content):
        return "".join(str(part.get("text") or "") for part in content if part.get("type") in ("text", "output_text"))
    thought = message.get("reasoning") or message.get("reasoning_content")
    return "" if content is None and thought and finish == "length" else content


def _trouble_of(answer: Any) -> Trouble | SampleError:
    """What an error inside a 200 means."""
    code, said = _error_in(answer)
    if code in OF_THE_ROW:
        return SampleError(OF_THE_ROW[code], said)
    return Trouble("chat_bad_reply", f"an error inside a 200 ({said})")


def _count(value: Any) -> int:
    """A number of tokens; 0 for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS else 0


def error_of(response: httpx.Response) -> tuple[str, str]:
    """The error's code ("" where there is none) and what the server says, shortened."""
    try:
        return _error_in(response.json())
    except (ValueError, RecursionError):
        return "", " ".join(response.text[:200].split())


def _error_in(answer: Any) -> tuple[str, str]:
    error = answer.get("error", answer) if isinstance(answer, Mapping) else answer
    if not isinstance(error, Mapping):
        return "", valid_text(str(error))[:200]
    said = error.get("message") or error.get("detail") or ""
    return _code_of(error, str(said)), valid_text(said if isinstance(said, str) else json.dumps(said))[:200]


def _code_of(error: Mapping[str, Any], said: str) -> str:
    """The error's code, in OpenAI's spelling where it means one of `OF_THE_ROW`."""
    code = str(error.get("code") or "")
    if code in OF_THE_ROW:
        return code
    told = " ".join([code, str(error.get("type") or ""), str(error.get("param") or ""), said])
    if _TOO_LONG.search(told):
        return "context_length_exceeded"
    return "content_policy_violation" if _FILTERED.search(told) else code
