"""Locate: what an image shows, and where."""

from collections.abc import Sequence
from typing import Protocol

import pyarrow as pa
from PIL import Image as PilImage

from editing.boxes import BoxUnits, Region, parse_regions
from models.chat import ChatModel, ChatReply, ChatRequest
from storage.errors import SampleError
from storage.images import Rgb, decode_stored
from storage.records import Finding, Image, Located, Rejection, content_id, from_table
from storage.stage import BatchResult, in_batches, reject
from storage.workspace import Workspace

LOCATE_VERSION = 1


class Locator(Protocol):
    """Finds regions. One answer per image, in order: its regions, or why there are none to trust."""

    @property
    def fingerprint(self) -> str: ...

    def locate(self, images: Sequence[Rgb]) -> list[tuple[Region, ...] | SampleError]: ...


class ChatLocator:
    """Asks a vision-language model for JSON boxes."""

    def __init__(self, model: ChatModel, prompt: str, *, units: BoxUnits, max_new_tokens: int) -> None:
        self._model = model
        self._prompt = prompt
        self._units: BoxUnits = units
        self._max_new_tokens = max_new_tokens

    @property
    def fingerprint(self) -> str:
        return content_id(self._model.fingerprint, self._prompt, self._units, self._max_new_tokens)

    def locate(self, images: Sequence[Rgb]) -> list[tuple[Region, ...] | SampleError]:
        requests = [
            ChatRequest(self._prompt, images=(PilImage.fromarray(rgb),), max_new_tokens=self._max_new_tokens)
            for rgb in images
        ]
        replies = self._model.generate(requests)
        return [self._regions(rgb, reply) for rgb, reply in zip(images, replies, strict=True)]

    def _regions(self, rgb: Rgb, reply: ChatReply) -> tuple[Region, ...] | SampleError:
        if reply.finish_reason == "length":
            return SampleError("locator_truncated", f"No end after {reply.completion_tokens} tokens.")
        height, width, _ = rgb.shape
        try:
            return parse_regions(reply.text, seen=reply.image_sizes[0], original=(width, height), units=self._units)
        except SampleError as error:
            return error


def attributes_of(regions: Sequence[Region]) -> tuple[str, ...]:
    """The sorted union of the regions' attributes."""
    return tuple(sorted({a for region in regions for a in region.attributes}))


def locate_batch(batch: Sequence[Image], *, workspace: Workspace, locator: Locator) -> BatchResult[Located]:
    """Regions of each image; an answer that cannot be trusted refuses its image."""
    answers = locator.locate([decode_stored(workspace.blobs.get(image.blob)) for image in batch])
    ok: list[Located] = []
    rejected: list[Rejection] = []
    for image, answer in zip(batch, answers, strict=True):
        if isinstance(answer, SampleError):
            rejected.append(reject(image, image.image_id, answer))
        else:
            ok.append(_located(image, answer, locator.fingerprint))
    return BatchResult(ok, rejected)


def _located(image: Image, regions: Sequence[Region], fingerprint: str) -> Located:
    findings = tuple(
        Finding(
            finding_id=content_id(image.image_id, region.attributes, region.box),
            attributes=region.attributes,
            rule_ids=(),
            box=region.box,
            mask="",
            instruction=region.instruction,
            score=region.score,
        )
        for region in regions
    )
    return Located(image.image_id, attributes_of(regions), findings, fingerprint)


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
