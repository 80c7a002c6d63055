"""Locate: what an image shows, and where."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
from PIL import Image as PilImage

from editing.boxes import BoxUnits, Region, parse_regions
from models.chat import ChatModel, ChatReply, ChatRequest
from storage.errors import SampleError
from storage.images import Rgb, decode_stored, encode_mask
from storage.records import Finding, Image, Located, Rejection, content_id, from_table
from storage.stage import BatchResult, in_batches, reject
from storage.workspace import Workspace

LOCATE_VERSION = 2


@dataclass(frozen=True)
class LocateRequest:
    """`rgb` is uint8 (height, width, 3). `source_key` is the file's name, empty for an image made here; `meta_json` is
    that of its record, with what its source says of it."""

    rgb: Rgb
    source_key: str = ""
    meta_json: str = "{}"


class Locator(Protocol):
    """Finds regions. One answer per request, in order: its regions, or why there are none to trust."""

    @property
    def fingerprint(self) -> str: ...

    def locate(self, requests: Sequence[LocateRequest]) -> list[tuple[Region, ...] | SampleError]: ...


_AGAIN = "\n\nYour last answer could not be used ({reason}). Answer again, with the JSON list and nothing else."


class ChatLocator:
    """Asks a vision-language model for JSON boxes; an answer that cannot be read is asked for once more.

    `side_multiple` is what a server rounds the sides of a picture to after it was sent.
    """

    def __init__(
        self,
        model: ChatModel,
        prompt: str,
        *,
        units: BoxUnits,
        max_new_tokens: int,
        known_rules: frozenset[str] = frozenset(),
        side_multiple: int = 1,
    ) -> None:
        self._model = model
        self._prompt = prompt
        self._units: BoxUnits = units
        self._max_new_tokens = max_new_tokens
        self._known_rules = known_rules
        self._side_multiple = side_multiple

    @property
    def fingerprint(self) -> str:
        return content_id(self._model.fingerprint, self._prompt, self._units, self._max_new_tokens)

    def locate(self, requests: Sequence[LocateRequest]) -> list[tuple[Region, ...] | SampleError]:
        answers = self._ask(requests, [self._prompt] * len(requests))
        again = [(i, answer) for i, answer in enumerate(answers) if isinstance(answer, SampleError)]
        prompts = [self._prompt + _AGAIN.format(reason=f"{error.code}: {error.detail}") for _, error in again]
        for (i, _), answer in zip(again, self._ask([requests[i] for i, _ in again], prompts), strict=True):
            answers[i] = answer
        return answers

    def _ask(self, requests: Sequence[LocateRequest], prompts: Sequence[str]) -> list[tuple[Region, ...] | SampleError]:
        chats = [
            ChatRequest(prompt, (PilImage.fromarray(request.rgb),), self._max_new_tokens)
            for request, prompt in zip(requests, prompts, strict=True)
        ]
        replies = self._model.generate(chats) if chats else []
        return [self._regions(r.rgb, reply) for r, reply in zip(requests, replies, strict=True)]

    def _regions(self, rgb: Rgb, reply: ChatReply) -> tuple[Region, ...] | SampleError:
        if reply.finish_reason == "length":
            return SampleError("locator_truncated", f"No end after {reply.completion_tokens} tokens.")
        height, width, _ = rgb.shape
        try:
            return parse_regions(
                reply.text,
                seen=self._seen(reply.image_sizes[0]),
                original=(width, height),
                units=self._units,
                known_rules=self._known_rules,
            )
        except SampleError as error:
            return error

    def _seen(self, sent: tuple[int, int]) -> tuple[int, int]:
        width, height = (max(1, round(side / self._side_multiple)) * self._side_multiple for side in sent)
        return width, height


def attributes_of(regions: Sequence[Region]) -> tuple[str, ...]:
    """The sorted union of the regions' attributes."""
    return tuple(sorted({a for region in regions for a in region.attributes}))


def locate_batch(batch: Sequence[Image], *, workspace: Workspace, locator: Locator) -> BatchResult[Located]:
    """Regions of each image; an answer that cannot be trusted refuses its image."""
    requests = [LocateRequest(decode_stored(workspace.blobs.get(i.blob)), i.source_key, i.meta_json) for i in batch]
    answers = locator.locate(requests)
    ok: list[Located] = []
    rejected: list[Rejection] = []
    for image, answer in zip(batch, answers, strict=True):
        if isinstance(answer, SampleError):
            rejected.append(reject(image, image.image_id, answer))
        else:
            findings = tuple(_finding(image, region, workspace) for region in answer)
            ok.append(Located(image.image_id, attributes_of(answer), findings, locator.fingerprint))
    return BatchResult(ok, rejected)


def _finding(image: Image, region: Region, workspace: Workspace) -> Finding:
    mask = "" if region.mask is None else workspace.blobs.put(encode_mask(region.mask))
    return Finding(
        finding_id=content_id(image.image_id, region.attributes, region.box, mask),
        attributes=region.attributes,
        rule_ids=region.rule_ids,
        box=region.box,
        mask=mask,
        instruction=region.instruction,
        score=region.score,
    )


class LocateStage:
    """Images to what they show."""

    def __init__(self, root: str, locator: Locator, batch_size: int) -> None:
        self._workspace = Workspace.open(root)
        self._locator = locator
        self._batch_size = batch_size

    def run_shard(self, shard: pa.Table) -> BatchResult[Located]:
        return in_batches(from_table(shard, Image), self._step, key=lambda image: image.image_id, size=self._batch_size)

    def _step(self, batch: Sequence[Image]) -> BatchResult[Located]:
        return locate_batch(batch, workspace=self._workspace, locator=self._locator)
