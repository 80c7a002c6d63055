"""Locate: what an image shows, and where."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from PIL import Image as PilImage

from editing.boxes import Region, merged, parse_regions
from editing.settings import LocateSettings
from models.chat import ChatModel, ChatReply, ChatRequest
from policies.vocabulary import Vocabulary
from storage.errors import SampleError
from storage.images import Rgb, decoded, encode_mask, open_stored
from storage.network import Batching, run_network
from storage.records.editing import Finding, Located
from storage.records.ids import content_id
from storage.records.images import Picture
from storage.records.tables import from_table
from storage.stage import BatchResult
from storage.workspace import Workspace


@dataclass(frozen=True)
class LocateRequest:
    """`image` may still have to be decoded. `source_key` is the file's name, empty for an image made here; `meta_json`
    is that of its record, with what its source says of it."""

    image: PilImage.Image
    source_key: str = ""
    meta_json: str = "{}"

    @property
    def rgb(self) -> Rgb:
        """The pixels, uint8 (height, width, 3)."""
        return np.asarray(decoded(self.image))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.image.height, self.image.width


class Locator(Protocol):
    """Finds regions. One answer per request, in order: its regions, or why there are none to trust."""

    @property
    def fingerprint(self) -> str: ...

    def locate(self, requests: Sequence[LocateRequest]) -> list[tuple[Region, ...] | SampleError]: ...


_AGAIN = "\n\nYour last answer could not be used ({reason}). Answer again, with the JSON list and nothing else."


class ChatLocator:
    """Asks a vision-language model for JSON boxes; an answer that cannot be read is asked for once more."""

    def __init__(
        self,
        model: ChatModel,
        prompts: Sequence[str],
        vocabulary: Vocabulary,
        settings: LocateSettings,
        known_rules: frozenset[str] = frozenset(),
        schema: Mapping[str, Any] | None = None,
    ) -> None:
        self._model = model
        self._schema = schema
        self._prompts = tuple(prompts)
        self._vocabulary = vocabulary
        self._settings = settings
        self._known_rules = known_rules

    @property
    def fingerprint(self) -> str:
        return content_id(
            self._model.fingerprint,
            *self._prompts,
            self._vocabulary.spoken,
            self._settings.units,
            self._settings.max_new_tokens,
            self._settings.label_map,
        )

    def locate(self, requests: Sequence[LocateRequest]) -> list[tuple[Region, ...] | SampleError]:
        asked = [(request, prompt) for request in requests for prompt in self._prompts]
        answers = self._ask(asked)
        again = [(i, answer) for i, answer in enumerate(answers) if isinstance(answer, SampleError)]
        repeated = [
            (asked[i][0], asked[i][1] + _AGAIN.format(reason=f"{error.code}: {error.detail}")) for i, error in again
        ]
        for (i, _), answer in zip(again, self._ask(repeated), strict=True):
            answers[i] = answer
        parts = len(self._prompts)
        return [_together(answers[at : at + parts], self._vocabulary) for at in range(0, len(answers), parts)]

    def _ask(self, asked: Sequence[tuple[LocateRequest, str]]) -> list[tuple[Region, ...] | SampleError]:
        most = self._settings.max_new_tokens
        chats = [ChatRequest(prompt, (request.image,), most, schema=self._schema) for request, prompt in asked]
        replies = self._model.generate(chats) if chats else []
        return [self._regions(r.shape, reply) for (r, _), reply in zip(asked, replies, strict=True)]

    def _regions(self, shape: tuple[int, int], reply: ChatReply) -> tuple[Region, ...] | SampleError:
        if reply.finish_reason == "length":
            return SampleError("locator_truncated", f"No end after {reply.completion_tokens} tokens.")
        try:
            return parse_regions(
                reply.text,
                seen=self._seen(reply.image_sizes[0]),
                original=(shape[1], shape[0]),
                units=self._settings.units,
                vocabulary=self._vocabulary,
                label_map=self._settings.label_map,
                known_rules=self._known_rules,
            )
        except SampleError as error:
            return error

    def _seen(self, sent: tuple[int, int]) -> tuple[int, int]:
        multiple = self._settings.side_multiple
        width, height = (max(1, round(side / multiple)) * multiple for side in sent)
        return width, height


def _together(
    answers: Sequence[tuple[Region, ...] | SampleError], vocabulary: Vocabulary
) -> tuple[Region, ...] | SampleError:
    """All regions of one image; where one part of the question got no answer, nothing is known of the whole."""
    regions: list[Region] = []
    for answer in answers:
        if isinstance(answer, SampleError):
            return answer
        regions += answer
    return tuple(merged(regions, vocabulary))


def attributes_of(regions: Sequence[Region]) -> tuple[str, ...]:
    """The sorted union of the regions' attributes."""
    return tuple(sorted({a for region in regions for a in region.attributes}))


def _finding(image: Picture, region: Region, workspace: Workspace) -> Finding:
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
    """Images to what they show. An answer that cannot be trusted refuses its image.

    So does a minor beside anything sensitive: nothing is edited, captioned, labelled or exported that shows it.
    """

    def __init__(
        self,
        workspace: Workspace,
        locator: Locator,
        rows_at_once: int | None,
        vocabulary: Vocabulary,
        *,
        is_model: bool = True,
    ) -> None:
        self._workspace = workspace
        self._locator = locator
        # What people marked is known by the marks: a file that grew is no other locator to the images it had before.
        self._name = locator.fingerprint if is_model else ""
        self._vocabulary = vocabulary
        self._rows_at_once = rows_at_once

    def run_shard(self, shard: pa.Table) -> BatchResult[Located]:
        return run_network(
            from_table(shard, Picture),
            self,
            Batching(self._rows_at_once),
            key=lambda image: image.image_id,
        )

    def prepare(self, row: Picture) -> LocateRequest:
        """A request, whose picture is decoded when its turn comes: a large batch holds files and no pixels."""
        return LocateRequest(open_stored(self._workspace.blobs.get(row.blob)), row.source_key, row.meta_json)

    def run(self, pieces: Sequence[LocateRequest]) -> list[tuple[Region, ...] | SampleError]:
        return self._locator.locate(pieces)

    def finish(self, row: Picture, _: LocateRequest, answer: tuple[Region, ...] | SampleError) -> list[Located]:
        if isinstance(answer, SampleError):
            raise answer
        seen = attributes_of(answer)
        aside = (self._vocabulary.mentioned(region.label) for region in answer if not region.attributes)
        named = frozenset(seen).union(*aside)  # "child with a gun" is no single thing, and blocks like two
        minors = self._vocabulary.minors & named
        if minors and any(name in self._vocabulary and self._vocabulary[name].sensitive for name in named):
            raise SampleError("minor_beside_sensitive", f"{min(minors)} beside something sensitive.")
        findings = tuple(_finding(row, region, self._workspace) for region in answer if region.attributes)
        set_aside = tuple(sorted({region.label for region in answer if not region.attributes}))
        return [Located(row.image_id, seen, findings, self._name, set_aside)]
