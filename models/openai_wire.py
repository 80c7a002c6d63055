"""What goes over the wire to an OpenAI-compatible server, and what comes back."""

import base64
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import httpx
from PIL import Image as PilImage
from PIL.Image import Image

from models.chat import ChatReply, ChatRequest
from storage.errors import SampleError

JPEG_QUALITY = 95
Sizes = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Body:
    """How a request becomes JSON."""

    model: str
    max_pixels: int | None
    transport: Literal["data_uri"] | Callable[[Image], str]

    def of(self, request: ChatRequest) -> tuple[bytes, Sizes]:
        """The request's bytes, and (width, height) of its images as sent."""
        images = [fit(_decoded(image), self.max_pixels) for image in request.images]
        urls = [data_uri(image) if self.transport == "data_uri" else self.transport(image) for image in images]
        content: list[dict[str, Any]] = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        content.append({"type": "text", "text": request.prompt})
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": content if images else request.prompt}],
            "max_tokens": request.max_new_tokens,
            "temperature": request.temperature,
        }
        if request.temperature > 0:
            body["seed"] = request.seed
        return json.dumps(body).encode(), tuple(image.size for image in images)


def _decoded(image: Image) -> Image:
    """The picture's pixels. One that is still in its file is read from there anew: the caller may hold hundreds, and
    each that is decoded once keeps its pixels."""
    file = getattr(image, "fp", None)
    return (PilImage.open(io.BytesIO(file.getvalue())) if isinstance(file, io.BytesIO) else image).convert("RGB")


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


def data_uri(image: Image) -> str:
    """The image as a JPEG data URI."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(image)).decode()


def retry_after_s(header: str | None) -> float:
    """Seconds to wait as a `Retry-After` header says (RFC 9110, 10.2.3: seconds or a date); 0 without a usable one."""
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
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0


def read_reply(content: bytes, sizes: Sizes, latency_s: float) -> ChatReply | SampleError:
    """The reply in a 200 answer, or why there is none: `chat_content_filter`, `chat_refused`, `chat_bad_reply`."""
    try:
        answer = json.loads(content)
        choice = answer["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text, usage = message.get("content") or "", answer.get("usage") or {}
        tokens = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        refusal = message.get("refusal")
        if not isinstance(text, str):
            raise TypeError("content is no text")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        return SampleError("chat_bad_reply", f"The server's answer is no chat completion ({type(error).__name__}).")
    if finish == "content_filter":
        return SampleError("chat_content_filter", "The server's content filter stopped the answer.")
    if refusal:
        return SampleError("chat_refused", str(refusal)[:200])
    return ChatReply(text.strip(), "length" if finish == "length" else "stop", sizes, *tokens, latency_s)


def error_of(response: httpx.Response) -> tuple[str, str]:
    """The error's code ("" where there is none) and what the server says, shortened."""
    try:
        error: Any = response.json()
    except ValueError:
        return "", response.text[:200]
    error = error.get("error", error) if isinstance(error, Mapping) else error
    if not isinstance(error, Mapping):
        return "", str(error)[:200]
    return str(error.get("code") or ""), str(error.get("message") or "")[:200]
