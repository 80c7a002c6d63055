"""How a chat model is called: requests in, replies out, in order. And the in-process implementation."""

import importlib.util
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from PIL.Image import Image

from models.settings import Dtype
from models.source import fingerprint_of
from storage.errors import FatalError, SampleError
from storage.records.ids import content_id

_NO_TORCHVISION_FALLBACK = {
    "qwen2_vl": "Qwen2VLProcessor",
    "qwen2_5_vl": "Qwen2_5_VLProcessor",
    "qwen3_vl": "Qwen3VLProcessor",
}


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


class TransformersChat:
    """A Qwen-VL or Gemma model in this process, on the GPU if there is one.

    `source` is a local folder or a hub id. `dtype` "auto" is bfloat16 on a GPU and float32 on a CPU.
    `max_pixels` caps an image's area as the network sees it. The weights are loaded by the first call
    of `generate`; calls from several threads wait for each other. A batch that memory does not hold is
    halved. Raises FatalError when `source` is not there or cannot be loaded.
    """

    def __init__(
        self,
        source: str,
        *,
        revision: str | None = None,
        batch_size: int = 16,
        dtype: Dtype = "auto",
        max_pixels: int | None = None,
    ) -> None:
        self._source, self._revision = source, revision
        self._batch_size, self._dtype, self._max_pixels = batch_size, dtype, max_pixels
        self._fingerprint = content_id(fingerprint_of(source, revision), dtype, max_pixels)
        self._loaded: _Loaded | None = None
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> str:
        """Changes with the weights, the dtype and the pixel cap; not with the batch size."""
        return self._fingerprint

    def generate(self, requests: Sequence[ChatRequest], batch_size: int | None = None) -> list[ChatReply]:
        """Answers all requests, in batches of requests with like images, settings and lengths, by default of the size
        that the model was made with.

        Raises SampleError `chat_out_of_memory` for a request that does not fit by itself.
        """
        with self._lock:
            if self._loaded is None:
                self._loaded = _load(self._source, self._revision, self._dtype, self._max_pixels)
            replies: dict[int, ChatReply] = {}
            for group in batches(requests, batch_size or self._batch_size):
                answers = _generate_within_memory(self._loaded, [requests[index] for index in group])
                replies.update(zip(group, answers, strict=True))
        return [replies[index] for index in range(len(requests))]


def batches(requests: Sequence[ChatRequest], batch_size: int) -> Iterator[list[int]]:
    """Indices of requests that can share a batch: same image sizes, same settings, like length.

    A sampled request goes alone, so that its seed alone decides its answer.
    """

    def key(index: int) -> tuple[Any, ...]:
        request = requests[index]
        alone = index if request.temperature > 0 else -1
        return alone, request.max_new_tokens, request.first_tokens, tuple(image.size for image in request.images)

    order = sorted(range(len(requests)), key=lambda index: (*key(index), len(requests[index].prompt), index))
    group: list[int] = []
    for index in order:
        if group and (key(group[0]) != key(index) or len(group) == batch_size):
            yield group
            group = []
        group.append(index)
    if group:
        yield group


@dataclass(frozen=True)
class _Loaded:
    model: Any
    processor: Any  # a processor for a vision model, a tokenizer for a text model
    tokenizer: Any
    has_vision: bool


def _load(source: str, revision: str | None, dtype: Dtype, max_pixels: int | None) -> _Loaded:
    import torch
    import transformers

    cuda = torch.cuda.is_available()
    chosen = ("bfloat16" if cuda else "float32") if dtype == "auto" else dtype
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()  # the library warns of every class that lacks torchvision
    try:
        config = transformers.AutoConfig.from_pretrained(source, revision=revision)
        has_vision = getattr(config, "vision_config", None) is not None
        auto = transformers.AutoModelForImageTextToText if has_vision else transformers.AutoModelForCausalLM
        model = auto.from_pretrained(source, revision=revision, dtype=getattr(torch, chosen))
        processor = load_processor(source, revision, config.model_type, has_vision)
    except (OSError, ValueError, ImportError) as error:
        raise FatalError(f"The model {source} cannot be loaded: {error}") from error
    finally:
        transformers.logging.set_verbosity(level)
    tokenizer = processor.tokenizer if has_vision else processor
    tokenizer.padding_side = "left"  # generation goes on at the right end
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if has_vision and max_pixels is not None:
        size = dict(processor.image_processor.size)
        processor.image_processor.size = size | {"longest_edge": max_pixels}
    model.to("cuda" if cuda else "cpu").eval()
    return _Loaded(model, processor, tokenizer, has_vision)


def processor_for(source: str, revision: str | None = None) -> Any:
    """The processor of a vision model as this machine can load it, for code that trains the model."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(source, revision=revision)
    return load_processor(source, revision, config.model_type, has_vision=True)


def load_processor(source: str, revision: str | None, model_type: str, has_vision: bool) -> Any:
    """The stock processor (a text model's tokenizer); for a Qwen-VL without torchvision, the same less its video part.

    Raises what transformers raises when `source` holds none: OSError, ValueError, ImportError.
    """
    import transformers

    if not has_vision:
        return transformers.AutoTokenizer.from_pretrained(source, revision=revision)
    if importlib.util.find_spec("torchvision") or model_type not in _NO_TORCHVISION_FALLBACK:
        return transformers.AutoProcessor.from_pretrained(source, revision=revision)
    stock = getattr(transformers, _NO_TORCHVISION_FALLBACK[model_type])
    tokenizer = transformers.AutoTokenizer.from_pretrained(source, revision=revision)
    images = transformers.AutoImageProcessor.from_pretrained(source, revision=revision, backend="pil")

    def without_video(self: Any, image_processor: Any, tokenizer: Any, chat_template: str | None = None) -> None:
        self.image_token, self.video_token = "<|image_pad|>", "<|video_pad|>"
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        for name in ("vision_start", "vision_end"):  # Qwen3-VL reads these too
            setattr(self, f"{name}_token", f"<|{name}|>")
            setattr(self, f"{name}_token_id", tokenizer.convert_tokens_to_ids(f"<|{name}|>"))
        transformers.ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    image_only = type("ImageOnlyProcessor", (stock,), {"__init__": without_video})
    return image_only(images, tokenizer, chat_template=tokenizer.chat_template or _template(source, revision))


def _template(source: str, revision: str | None) -> str:
    from transformers.utils import cached_file

    path = cached_file(source, "chat_template.jinja", revision=revision)
    with open(path, encoding="utf-8") as file:
        return file.read()


def _generate_within_memory(loaded: _Loaded, requests: Sequence[ChatRequest]) -> list[ChatReply]:
    """One batch, in halves when the memory does not hold it; raises SampleError for a request too large by itself."""
    import torch

    try:
        return _generate(loaded, requests)
    except torch.OutOfMemoryError as error:
        if len(requests) == 1:
            size = ", ".join(f"{image.width}x{image.height}" for image in requests[0].images) or "no image"
            raise SampleError("chat_out_of_memory", f"One request alone does not fit ({size}). Cap pixels.") from error
    # Outside the handler, whose traceback would hold on to the failed call's tensors.
    torch.cuda.empty_cache()
    middle = len(requests) // 2
    return [r for part in (requests[:middle], requests[middle:]) for r in _generate_within_memory(loaded, part)]


def _generate(loaded: _Loaded, requests: Sequence[ChatRequest]) -> list[ChatReply]:
    """One batch through the network. All requests share image sizes and settings."""
    import torch

    began = time.monotonic()
    inputs = _encode(loaded, requests).to(loaded.model.device)
    asked, first = inputs["input_ids"].shape[1], requests[0]
    settings: dict[str, Any] = {"max_new_tokens": first.max_new_tokens, "do_sample": first.temperature > 0}
    if first.temperature > 0:
        settings["temperature"] = first.temperature
    with torch.inference_mode(), torch.random.fork_rng():
        torch.manual_seed(first.seed)
        made = loaded.model.generate(
            **inputs,
            **settings,
            pad_token_id=loaded.tokenizer.pad_token_id,
            return_dict_in_generate=True,
            output_logits=first.first_tokens > 0,
        )
    output, firsts = made.sequences, _first_tokens(loaded, made.logits, first.first_tokens, len(requests))
    spent = (time.monotonic() - began) / len(requests)
    sizes = _image_sizes(loaded, inputs, requests)
    prompt_tokens = inputs["attention_mask"].sum(dim=1).tolist()
    replies = []
    for row, seen, count, tokens in zip(output[:, asked:].tolist(), sizes, prompt_tokens, firsts, strict=True):
        ids, ended = _until_end(row, _end_ids(loaded))
        text = loaded.tokenizer.decode(ids, skip_special_tokens=True).strip()
        replies.append(ChatReply(text, "stop" if ended else "length", seen, int(count), len(ids), spent, tokens))
    return replies


def _first_tokens(loaded: _Loaded, logits: Any, wanted: int, rows: int) -> list[dict[str, float]]:
    """Per row, the likeliest first tokens with their natural log-probabilities; empty where none are wanted."""
    if not wanted:
        return [{}] * rows
    values, ids = logits[0].float().log_softmax(dim=-1).topk(wanted)
    return [
        {loaded.tokenizer.decode([token]): float(value) for value, token in zip(*row, strict=True)}
        for row in zip(values.tolist(), ids.tolist(), strict=True)
    ]


def _encode(loaded: _Loaded, requests: Sequence[ChatRequest]) -> Any:
    texts = []
    for request in requests:
        content: Any = request.prompt
        if loaded.has_vision:
            content = [{"type": "image"} for _ in request.images] + [{"type": "text", "text": request.prompt}]
        turns = [{"role": "user", "content": content}]
        if request.system:
            system: Any = [{"type": "text", "text": request.system}] if loaded.has_vision else request.system
            turns.insert(0, {"role": "system", "content": system})
        options = {"tokenize": False, "add_generation_prompt": True}
        texts.append(loaded.processor.apply_chat_template(turns, **options, **request.arguments))
    padding = {"padding": True, "padding_side": "left", "add_special_tokens": False}
    if not loaded.has_vision:
        return loaded.tokenizer(texts, return_tensors="pt", **padding)
    images = [image.convert("RGB") for request in requests for image in request.images]
    return loaded.processor(text=texts, images=images or None, text_kwargs=padding, return_tensors="pt")


def _end_ids(loaded: _Loaded) -> frozenset[int]:
    ends = loaded.model.generation_config.eos_token_id
    ends = loaded.tokenizer.eos_token_id if ends is None else ends
    return frozenset(ends if isinstance(ends, list) else [ends])


def _until_end(row: Sequence[int], ends: frozenset[int]) -> tuple[list[int], bool]:
    """The tokens before the first end token, and whether there was one."""
    for index, token in enumerate(row):
        if token in ends:
            return list(row[:index]), True
    return list(row), False


def _image_sizes(loaded: _Loaded, inputs: Any, requests: Sequence[ChatRequest]) -> list[tuple[tuple[int, int], ...]]:
    """For each request, (width, height) of its images after the processor's resizing."""
    if "image_grid_thw" in inputs:
        patch = loaded.processor.image_processor.patch_size
        seen = [(int(width) * patch, int(height) * patch) for _, height, width in inputs["image_grid_thw"].tolist()]
    elif "pixel_values" in inputs:
        height, width = inputs["pixel_values"].shape[-2:]
        seen = [(int(width), int(height))] * sum(len(request.images) for request in requests)
    else:
        seen = []
    left = iter(seen)
    return [tuple(next(left) for _ in request.images) for request in requests]
