"""What networks are asked and what that costs: counted where they are called, stopped before a limit is passed.

A meter is in force for the thread that opened it (`metering`), so a chat model shared by many shards counts each
request for the shard that asked. Without one, a metered model is just the model.
"""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from models.chat import ChatModel, ChatReply, ChatRequest
from models.image_edit import ImageEdit, ImageEditor
from storage.errors import FatalError, SampleError
from storage.images import Rgb
from storage.usage import Usage

# The most tokens that a server is taken to count for one image, before its own answers say more. Qwen-VL counts one
# per 28x28 pixels, Gemma 3 counts 256, hosted models up to about 1,600 for what they scale an image down to.
_IMAGE_TOKENS, _TOKEN_PX = 1600, 28 * 28


class Prices(BaseModel):
    """What a model costs, in any one currency."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: float = Field(default=0.0, ge=0, description="per million tokens that it reads, those of images included")
    completion: float = Field(default=0.0, ge=0, description="per million tokens that it writes")
    image: float = Field(default=0.0, ge=0, description="per image that it is sent, or that an editor makes")


def cost_of(usage: Usage, prices: Prices) -> float:
    """In the prices' currency."""
    tokens = usage.prompt_tokens * prices.prompt + usage.completion_tokens * prices.completion
    return tokens / 1_000_000 + usage.images * prices.image


class CostLimitError(FatalError):
    """The next request might pass the limit, so it was not sent. `at_least` is a limit that would do for what is known
    to be left, or None where nothing is known of it."""

    def __init__(self, message: str, at_least: float | None = None) -> None:
        super().__init__(message)
        self.at_least = at_least


class Budget:
    """The money of one build, shared by its threads. `limit` None: it is only added up.

    A request is held at the most that it can cost before it is sent, and settled at what it did cost.
    """

    def __init__(self, prices: Mapping[str, Prices], max_cost: float | None = None) -> None:
        self._prices, self.max_cost = prices, max_cost
        self._spent = self._held = 0.0
        self._lock = threading.Lock()

    @property
    def spent(self) -> float:
        """What was paid so far, earlier runs of the same shards included."""
        with self._lock:
            return self._spent

    def cost(self, usage: Mapping[str, Usage]) -> float:
        """What that much of each model costs; a model without a price is free."""
        return sum(cost_of(used, self._prices.get(model, Prices())) for model, used in usage.items())

    def add(self, amount: float) -> None:
        """Count what was paid elsewhere."""
        with self._lock:
            self._spent += amount

    def fits(self, amount: float) -> bool:
        """Whether so much more stays within the limit."""
        with self._lock:
            return self.max_cost is None or self._spent + self._held + amount <= self.max_cost

    def hold(self, model: str, worst: Sequence[Usage]) -> tuple[int, float]:
        """Reserve the worst cost of as many of these requests as fit: their number, and the amount.

        Raises CostLimitError when not even the first one does.
        """
        count = len(worst)
        while count:
            amount = self.cost({model: sum(worst[:count], Usage())})
            with self._lock:
                if self.max_cost is None or self._spent + self._held + amount <= self.max_cost:
                    self._held += amount
                    return count, amount
            count //= 2
        raise CostLimitError(
            f"{self.spent:.4g} of the limit of {self.max_cost:g} is spent, and the next request could cost up to "
            f"{self.cost({model: worst[0]}):.2g}. "
            "Raise --max-cost: finished shards are kept, the one at work is done anew."
        )

    def settle(self, held: float, cost: float = 0.0) -> None:
        """Give back a reservation and count what was paid."""
        with self._lock:
            self._held -= held
            self._spent += cost


Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Calls(Generic[Asked, Answer]):
    """Requests to one model: how they are sent, the most that one can use, and what one did use."""

    model: str
    requests: Sequence[Asked]
    send: Callable[[Sequence[Asked]], list[Answer]]
    worst: Callable[[Asked], Usage]
    used: Callable[[Asked, Answer], Usage]


class Meter:
    """Counts what one shard asks of each model."""

    def __init__(self, budget: Budget) -> None:
        self._budget, self._lock = budget, threading.Lock()
        self._usage: defaultdict[str, Usage] = defaultdict(Usage)

    @property
    def usage(self) -> dict[str, Usage]:
        """By model."""
        return dict(self._usage)

    def run(self, calls: Calls[Asked, Answer]) -> list[Answer]:
        """Send requests in as few calls as the budget allows, and count them.

        A call that raises counts nothing: its caller asks again for the rows that are not at fault.
        """
        answers: list[Answer] = []
        while len(answers) < len(calls.requests):
            left = calls.requests[len(answers) :]
            count, held = self._budget.hold(calls.model, [calls.worst(request) for request in left])
            cost = 0.0
            try:
                got = calls.send(left[:count])
                used = sum((calls.used(*pair) for pair in zip(left, got, strict=False)), Usage())
                with self._lock:
                    self._usage[calls.model] += used
                cost = self._budget.cost({calls.model: used})
            finally:
                self._budget.settle(held, cost)
            answers += got
        return answers


_meter: ContextVar[Meter | None] = ContextVar("meter", default=None)


@contextmanager
def metering(budget: Budget) -> Iterator[Meter]:
    """Count what this thread asks of metered models inside the block."""
    meter = Meter(budget)
    token = _meter.set(meter)
    try:
        yield meter
    finally:
        _meter.reset(token)


class MeteredChat:
    """A chat model whose requests are counted under `name`."""

    def __init__(self, model: ChatModel, name: str) -> None:
        self._model, self._name = model, name

    @property
    def fingerprint(self) -> str:
        return self._model.fingerprint

    def generate(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """As the model's own; raises CostLimitError too."""
        meter = _meter.get()
        if meter is None:
            return self._model.generate(requests)
        return meter.run(Calls(self._name, requests, self._model.generate, _worst_chat, _used_chat))


def _worst_chat(request: ChatRequest) -> Usage:
    """A token is at least a byte, and no answer is longer than was allowed."""
    images = sum(max(_IMAGE_TOKENS, 2 * image.width * image.height // _TOKEN_PX) for image in request.images)
    return Usage(1, len(request.images), 64 + len(request.prompt.encode()) + images, request.max_new_tokens)


def _used_chat(request: ChatRequest, reply: ChatReply) -> Usage:
    return Usage(1, len(request.images), reply.prompt_tokens, reply.completion_tokens)


class MeteredEditor:
    """An image editor whose pictures are counted under `name`."""

    def __init__(self, editor: ImageEditor, name: str) -> None:
        self._editor, self._name = editor, name

    @property
    def fingerprint(self) -> str:
        return self._editor.fingerprint

    @property
    def size_px(self) -> int:
        return self._editor.size_px

    @property
    def own_size(self) -> bool:
        return self._editor.own_size

    def edit(self, edits: Sequence[ImageEdit]) -> list[Rgb | SampleError]:
        """As the editor's own; raises CostLimitError too. A refused picture counts as made: servers bill it."""
        meter = _meter.get()
        if meter is None:
            return self._editor.edit(edits)
        return meter.run(Calls(self._name, edits, self._editor.edit, _one_picture, lambda edit, _: _one_picture(edit)))


def _one_picture(_: ImageEdit) -> Usage:
    return Usage(requests=1, images=1)
