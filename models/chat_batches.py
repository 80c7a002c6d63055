"""How requests become batches of one network's inputs: each is encoded by itself, ahead of the device, then stacked."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from models.chat import ChatRequest
from models.chat_load import LoadedChat
from models.encoders import encoders
from storage.images import decoded

Numbered = tuple[int, ChatRequest]
_AHEAD_BYTES = 600_000_000  # of inputs that wait for the device


@dataclass(frozen=True)
class Encoded:
    """The inputs of one request, by name, as a batch of one. `image_sizes` are (width, height) in pixels after the
    processor's resizing, `index` is the request's place."""

    index: int
    request: ChatRequest
    inputs: dict[str, Any]
    image_sizes: tuple[tuple[int, int], ...]

    @property
    def tokens(self) -> int:
        """Of the prompt."""
        return int(self.inputs["input_ids"].shape[1])

    @property
    def size_bytes(self) -> int:
        return sum(value.nbytes for value in self.inputs.values())

    @property
    def form(self) -> Any:
        """What must agree for two requests to share a batch: a model that packs its images takes any sizes together,
        another one those that its processor makes equal."""
        ids = self.inputs["input_ids"].shape
        return sorted((name, tuple(v.shape[1:])) for name, v in self.inputs.items() if v.shape != ids)


@dataclass(frozen=True)
class Refused:
    """A request that the processor could not take."""

    index: int
    error: Exception


def alike(requests: Sequence[Numbered]) -> list[list[Numbered]]:
    """Requests that may share a batch: of the same settings, in the order of their lengths, as far as these are known
    before anything is decoded. A sampled request goes alone, so that its seed alone decides its answer."""

    def settings(one: Numbered) -> tuple[int, int, int]:
        index, request = one
        return (index if request.temperature > 0 else -1), request.max_new_tokens, request.first_tokens

    def length(one: Numbered) -> tuple[Any, ...]:
        index, request = one
        return settings(one), sum(i.width * i.height for i in request.images), len(request.prompt), index

    return [list(group) for _, group in groupby(sorted(requests, key=length), key=settings)]


def encoded(
    loaded: LoadedChat, requests: Sequence[Numbered], size: Callable[[], int]
) -> Iterator[list[Encoded] | Refused]:
    """Batches of at most `size()` requests, in the order given, encoded some way ahead of whoever reads this."""
    batch: list[Encoded] = []
    for one in _ahead(loaded, requests, size):
        if isinstance(one, Refused):
            yield one
            continue
        if batch and (len(batch) >= size() or batch[0].form != one.form):
            yield batch
            batch = []
        batch.append(one)
    if batch:
        yield batch


def _ahead(loaded: LoadedChat, requests: Sequence[Numbered], size: Callable[[], int]) -> Iterator[Encoded | Refused]:
    left, waiting, largest = iter(requests), deque[tuple[int, Future[Encoded]]](), 0
    while True:
        while len(waiting) < 2 * size() and (not waiting or (len(waiting) + 1) * largest <= _AHEAD_BYTES):
            index, request = next(left, (-1, None))
            if request is None:
                break
            waiting.append((index, encoders().submit(_encode, loaded, index, request)))
        if not waiting:
            return
        index, done = waiting.popleft()
        try:
            one = done.result()
        except Exception as error:  # noqa: BLE001  (whatever a processor raises costs one request)
            yield Refused(index, error)
        else:
            largest = max(largest, one.size_bytes)
            yield one


def _encode(loaded: LoadedChat, index: int, request: ChatRequest) -> Encoded:
    content: Any = request.prompt
    if loaded.has_vision:
        content = [{"type": "image"} for _ in request.images] + [{"type": "text", "text": request.prompt}]
    turns = [{"role": "user", "content": content}]
    if request.system:
        system: Any = [{"type": "text", "text": request.system}] if loaded.has_vision else request.system
        turns.insert(0, {"role": "system", "content": system})
    options = {"tokenize": False, "add_generation_prompt": True}
    text = loaded.processor.apply_chat_template(turns, **options, **request.arguments)
    if not loaded.has_vision:
        inputs = loaded.tokenizer([text], return_tensors="pt", add_special_tokens=False)
    else:
        images = [decoded(image) for image in request.images]
        how = {"padding": False, "add_special_tokens": False}
        inputs = loaded.processor(text=[text], images=images or None, text_kwargs=how, return_tensors="pt")
    return Encoded(index, request, dict(inputs), _image_sizes(loaded, inputs, len(request.images)))


def _image_sizes(loaded: LoadedChat, inputs: Any, count: int) -> tuple[tuple[int, int], ...]:
    if "image_grid_thw" in inputs:
        patch = loaded.processor.image_processor.patch_size
        return tuple(
            (int(width) * patch, int(height) * patch) for _, height, width in inputs["image_grid_thw"].tolist()
        )
    if "pixel_values" not in inputs:
        return ()
    height, width = inputs["pixel_values"].shape[-2:]
    return ((int(width), int(height)),) * count


def stacked(batch: Sequence[Encoded], tokenizer: Any) -> dict[str, Any]:
    """The inputs of several requests as one batch, tokens padded on the left, where generation does not go on."""
    import torch

    longest, together = max(one.tokens for one in batch), dict[str, Any]()
    for name in batch[0].inputs:
        values = [one.inputs[name] for one in batch]
        if all(value.shape == one.inputs["input_ids"].shape for value, one in zip(values, batch, strict=True)):
            fill = tokenizer.pad_token_id if name == "input_ids" else 0
            values = [torch.nn.functional.pad(v, (longest - v.shape[1], 0), value=fill) for v in values]
        together[name] = torch.cat(values)
    return together
