"""How a chat model is called: requests in, replies out, in order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from PIL.Image import Image


@dataclass(frozen=True)
class ChatRequest:
    """One user turn: images first, then the prompt. Temperature 0 is greedy and ignores the seed.

    `schema` is a JSON schema of the answer, for servers that keep to one; a model in this process does not. `files` are
    the images' own encoded bytes, in the same order: a server gets these instead of a JPEG of the pixels. `arguments`
    go to the model's chat template. `first_tokens` asks for the log-probabilities of so many candidates for the first
    token.
    """

    prompt: str
    images: tuple[Image, ...] = ()
    max_new_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    schema: Mapping[str, Any] | None = None
    system: str = ""
    files: tuple[bytes, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    first_tokens: int = 0


@dataclass(frozen=True)
class ChatReply:
    """One answer. `image_sizes` are (width, height) in pixels as the network saw the images.

    Boxes that a Qwen2.5-VL answers are in those pixels. `latency_s` is this reply's share of its batch. `first_tokens`
    maps candidates for the first token to their natural log-probabilities; empty where nobody asked or none were given.
    """

    text: str
    finish_reason: Literal["stop", "length"]
    image_sizes: tuple[tuple[int, int], ...]
    prompt_tokens: int
    completion_tokens: int
    latency_s: float
    first_tokens: Mapping[str, float] = field(default_factory=dict)


class ChatModel(Protocol):
    """Anything that answers chat requests. One reply per request, in order."""

    @property
    def fingerprint(self) -> str: ...

    def generate(self, requests: Sequence[ChatRequest]) -> list[ChatReply]: ...
