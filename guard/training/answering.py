"""Asks a network that is in this process already: greedy answers in batches, for checks before and after training."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from guard.training.network import Network
from models.chat import ChatReply, ChatRequest
from storage.records.ids import content_id

_BATCH = 32


class NetworkChat:
    """A `ChatModel` over a loaded network. One image per request, greedy; a vision memory makes repeats cheap."""

    def __init__(self, network: Network) -> None:
        self._network = network

    @property
    def fingerprint(self) -> str:
        """The folder that the network came from; two trainings never share one."""
        return content_id("network", self._network.source)

    def generate(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        """Answers in the order of the requests; those of like length share a batch."""
        order = sorted(range(len(requests)), key=lambda i: (requests[i].max_new_tokens, len(requests[i].prompt), i))
        replies: dict[int, ChatReply] = {}
        for start in range(0, len(order), _BATCH):
            group = order[start : start + _BATCH]
            replies.update(zip(group, self._answer([requests[i] for i in group]), strict=True))
        return [replies[i] for i in range(len(requests))]

    def _answer(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        model, processor = self._network.model, self._network.processor
        turns = [
            [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": r.prompt}]}] for r in requests
        ]
        texts = processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        padding = {"padding": True, "padding_side": "left", "add_special_tokens": False}
        images = [r.images[0].convert("RGB") for r in requests]
        inputs = processor(text=texts, images=images, text_kwargs=padding, return_tensors="pt").to(model.device)
        asked, began = inputs["input_ids"].shape[1], time.monotonic()
        was_training = model.training
        model.eval()
        on_cpu = model.device.type == "cpu"  # on a GPU the weights themselves are in bfloat16
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=on_cpu and self._network.bf16):
            output = model.generate(
                **inputs,
                max_new_tokens=max(r.max_new_tokens for r in requests),
                do_sample=False,
                pad_token_id=processor.tokenizer.pad_token_id,
            )
        model.train(was_training)
        spent = (time.monotonic() - began) / len(requests)
        counts = inputs["attention_mask"].sum(dim=1).tolist()
        return [
            _reply(processor, row, int(n), spent) for row, n in zip(output[:, asked:].tolist(), counts, strict=True)
        ]


def _reply(processor: Any, row: Sequence[int], prompt_tokens: int, latency_s: float) -> ChatReply:
    tokenizer = processor.tokenizer
    ended = tokenizer.eos_token_id in row
    ids = list(row[: row.index(tokenizer.eos_token_id)]) if ended else list(row)
    text = tokenizer.decode(ids, skip_special_tokens=True).strip()
    return ChatReply(text, "stop" if ended else "length", (), prompt_tokens, len(ids), latency_s)
