"""A chat model in this process."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from models.chat import ChatReply, ChatRequest
from models.chat_batches import Encoded, Refused, alike, encoded, stacked
from models.chat_load import LoadedChat, load_chat
from models.device import at_device, load_on_device, still_needed
from models.kept_replies import KeptReplies
from models.settings import Dtype, Quantize
from models.source import fingerprint_of
from storage.errors import SampleError
from storage.records.ids import content_id


class TransformersChat:
    """A Qwen-VL or Gemma model in this process, on the GPU if there is one.

    `source` is a local folder or a hub id. `dtype` "auto" is bfloat16 on a GPU and float32 on a CPU.
    `max_pixels` caps an image's area as the network sees it; `quantize` keeps the weights in fewer bits. The
    weights are loaded by the first call of `generate`; calls from several threads take turns. A batch that memory does
    not hold is halved, and so are all that follow.
    Raises FatalError when `source` is not there or cannot be loaded.
    """

    def __init__(
        self,
        source: str,
        *,
        revision: str | None = None,
        batch_size: int = 16,
        dtype: Dtype = "auto",
        max_pixels: int | None = None,
        quantize: Quantize | None = None,
    ) -> None:
        self._source, self._revision = source, revision
        self._batch_size, self._dtype, self._max_pixels = batch_size, dtype, max_pixels
        self._quantize = quantize
        self._fingerprint = content_id(fingerprint_of(source, revision), dtype, max_pixels, *filter(None, [quantize]))
        self._loaded: LoadedChat | None = None
        self._most: int | None = None  # requests that were found to fit
        self._kept = KeptReplies()

    @property
    def fingerprint(self) -> str:
        """Changes with the weights, their bits, the dtype and the pixel cap; not with the batch size."""
        return self._fingerprint

    def generate(self, requests: Sequence[ChatRequest], batch_size: int | None = None) -> list[ChatReply]:
        """Answers all requests, in batches of requests with the same settings and like lengths, by default of the size
        that the model was made with. While one batch is answered, the images of the next are read.

        Raises what the first request at fault raised, SampleError `chat_out_of_memory` for one that does not fit by
        itself, once all others are answered; their replies are kept for the next call.
        """
        keys = [_Key.of(request) for request in requests]
        kept = [self._kept.get(key) for key in keys]
        outcomes: dict[int, ChatReply | Exception] = {i: reply for i, reply in enumerate(kept) if reply is not None}
        for group in alike([(index, request) for index, request in enumerate(requests) if index not in outcomes]):
            loaded = self._ready()
            for batch in encoded(loaded, group, lambda: min(batch_size or self._batch_size, self._most or sys.maxsize)):
                if isinstance(batch, Refused):
                    outcomes[batch.index] = batch.error
                else:
                    outcomes.update(self._answered(loaded, batch))
        return self._kept.settle([(key, outcomes[index]) for index, key in enumerate(keys)])

    def let_go(self) -> None:
        """Drop the weights; the next call loads them again."""
        self._loaded = None

    def _ready(self) -> LoadedChat:
        with at_device():
            still_needed(self)
            if self._loaded is None:
                load_on_device(self, self._load)
            assert self._loaded is not None
            return self._loaded

    def _load(self) -> None:
        self._loaded = load_chat(self._source, self._revision, self._dtype, self._max_pixels, self._quantize)

    def _answered(self, loaded: LoadedChat, batch: Sequence[Encoded]) -> dict[int, ChatReply | Exception]:
        """One batch, in halves when the memory does not hold it."""
        import torch

        try:
            with at_device():
                replies = _generate(loaded, batch)
            return dict(zip((one.index for one in batch), replies, strict=True))
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                size = ", ".join(f"{i.width}x{i.height}" for i in batch[0].request.images) or "no image"
                refused = SampleError("chat_out_of_memory", f"One request alone does not fit ({size}). Cap pixels.")
                refused.__cause__ = error
                return {batch[0].index: refused}
        # Outside the handler, whose traceback would hold on to the failed call's tensors.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._most = min(self._most or len(batch), len(batch) // 2)
        outcomes = dict[int, ChatReply | Exception]()
        while len(outcomes) < len(batch):
            outcomes |= self._answered(loaded, batch[len(outcomes) : len(outcomes) + self._most])
        return outcomes


@dataclass(frozen=True)
class _Key:
    """What tells requests apart; images by identity, since to compare their pixels would decode them."""

    how: tuple[Any, ...]
    request: ChatRequest = field(compare=False)  # so that no other image gets the identity

    @classmethod
    def of(cls, request: ChatRequest) -> "_Key":
        images = tuple(id(image) for image in request.images)
        how = request.max_new_tokens, request.temperature, request.seed, request.first_tokens
        arguments = repr(sorted(request.arguments.items()))
        return cls((request.system, request.prompt, images, how, arguments), request)


def _generate(loaded: LoadedChat, batch: Sequence[Encoded]) -> list[ChatReply]:
    """One batch through the network. All requests share their settings."""
    import torch

    began = time.monotonic()
    inputs = {name: value.to(loaded.model.device) for name, value in stacked(batch, loaded.tokenizer).items()}
    asked, first = inputs["input_ids"].shape[1], batch[0].request
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
    output, firsts = made.sequences, _first_tokens(loaded, made.logits, first.first_tokens, len(batch))
    spent = (time.monotonic() - began) / len(batch)
    replies = []
    for row, one, tokens in zip(output[:, asked:].tolist(), batch, firsts, strict=True):
        ids, ended = _until_end(row, _end_ids(loaded))
        text = loaded.tokenizer.decode(ids, skip_special_tokens=True).strip()
        finish: Literal["stop", "length"] = "stop" if ended else "length"
        replies.append(ChatReply(text, finish, one.image_sizes, one.tokens, len(ids), spent, tokens))
    return replies


def _first_tokens(loaded: LoadedChat, logits: Any, wanted: int, rows: int) -> list[dict[str, float]]:
    """Per row, the likeliest first tokens with their natural log-probabilities; empty where none are wanted."""
    if not wanted:
        return [{}] * rows
    values, ids = logits[0].float().log_softmax(dim=-1).topk(wanted)
    return [
        {loaded.tokenizer.decode([token]): float(value) for value, token in zip(*row, strict=True)}
        for row in zip(values.tolist(), ids.tolist(), strict=True)
    ]


def _end_ids(loaded: LoadedChat) -> frozenset[int]:
    ends = loaded.model.generation_config.eos_token_id
    ends = loaded.tokenizer.eos_token_id if ends is None else ends
    return frozenset(ends if isinstance(ends, list) else [ends])


def _until_end(row: Sequence[int], ends: frozenset[int]) -> tuple[list[int], bool]:
    """The tokens before the first end token, and whether there was one."""
    for index, token in enumerate(row):
        if token in ends:
            return list(row[:index]), True
    return list(row), False
