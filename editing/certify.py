"""Certify: look at each edited image again, and keep only what the measurements support."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from editing.lettering import new_words
from editing.locate import LocateRequest, Locator
from editing.measure import Pair, judge, measure
from editing.questions import Asked, ask
from editing.settings import CertifySettings
from editing.witness import Arrival, Comparison, Testimony, WitnessRequest, ask_witness
from models.chat import ChatModel
from models.perceptual import PerceptualDistance
from models.text_reader import TextReader
from policies.vocabulary import Vocabulary
from storage.errors import SampleError
from storage.images import Mask, decode_mask, decode_stored, open_stored
from storage.network import Batching, run_network
from storage.reasons import reasons_against
from storage.records.editing import Answer, Edit
from storage.records.tables import from_table
from storage.stage import BatchResult
from storage.workspace import Workspace


@dataclass(frozen=True)
class Witnesses:
    """Who looks at edited images. Without a locator nobody looks again, and what was asked for counts as done."""

    locator: Locator | None = None
    chat: ChatModel | None = None  # answers the questions of the settings
    perceptual: PerceptualDistance | None = None
    reader: TextReader | None = None


class CertifyStage:
    """Candidates to certified candidates. Rows are conserved by `edit_id`.

    Both verdicts go on: a rejected candidate is a negative worth keeping. Without a locator, what the image shows after
    is what it showed before less the targets, and no insertion is accepted. A candidate that the locator cannot read is
    refused.
    """

    def __init__(
        self,
        workspace: Workspace,
        witnesses: Witnesses,
        feather_px: int,
        settings: CertifySettings,
        rows: int | None,
        vocabulary: Vocabulary,
    ) -> None:
        self.workspace = workspace
        self.batching = Batching(rows, finish_bytes_of=_pictures_bytes)
        self._witnesses = witnesses
        self._feather_px = feather_px
        self._settings = settings
        self._vocabulary = vocabulary

    def run_shard(self, shard: pa.Table) -> BatchResult[Edit]:
        looked = run_network(from_table(shard, Edit), self, self.batching, key=lambda edit: edit.edit_id)
        return BatchResult([_with_verdict(edit) for edit in looked.ok], looked.rejected)

    def prepare(self, row: Edit) -> WitnessRequest:
        looks = self._witnesses.locator
        known = looks is None or row.locator == looks.fingerprint
        original = None if known else self._picture(row.original_blob)
        return WitnessRequest(row.image_id, self._picture(row.edited_id), original)

    def _picture(self, blob: str) -> LocateRequest:
        return LocateRequest(open_stored(self.workspace.blobs.get(blob)))

    def run(self, pieces: Sequence[WitnessRequest]) -> Sequence[Testimony | SampleError | None]:
        """What each edited image shows, as far as somebody looks."""
        locator = self._witnesses.locator
        return [None] * len(pieces) if locator is None else ask_witness(locator, pieces)

    def finish(self, row: Edit, _: WitnessRequest, answer: Testimony | SampleError | None) -> list[Edit]:
        """The edit with its certificate and the reasons against it."""
        if isinstance(answer, SampleError):
            raise answer
        blobs = self.workspace.blobs
        original, edited = decode_stored(blobs.get(row.original_blob)), decode_stored(blobs.get(row.edited_id))
        pair = Pair(original, edited, decode_mask(blobs.get(row.mask)))
        after, speaking_against = self._seen(row, answer, pair.mask)
        certificate = measure(pair, row, after, feather_px=self._feather_px, perceptual=self._witnesses.perceptual)
        looked = self._witnesses.locator.fingerprint if self._witnesses.locator else ""
        certificate = replace(certificate, witness=looked, new_text=self._new_text(pair))
        reasons = judge(row, certificate, self._settings)
        removed = tuple(sorted(set(row.attributes_before) - set(after)))
        return [replace(row, certificate=certificate, attributes_removed=removed, reasons=reasons + speaking_against)]

    def _seen(self, row: Edit, answer: Testimony | None, mask: Mask) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What the edited image shows, and the reasons that this gives."""
        if answer is None:  # that something is gone may be assumed, that it is there may not
            gone = tuple(a for a in row.attributes_before if a not in row.target_attributes)
            return gone, reasons_against(("insertion_missing", row.kind == "insert"))
        before, after = Counter(row.shown_before if answer.before is None else answer.before), Counter(answer.after)
        seen: Comparison | Arrival
        if row.kind == "insert":
            (target,) = row.target_attributes
            inside = Counter(answer.inside(mask))
            seen = Arrival(before, after, inside, answer.unknown, target, self._vocabulary)
        else:
            seen = Comparison(before, after, frozenset(row.target_attributes), self._vocabulary)
        return seen.attributes_after(row.attributes_before), seen.reasons()

    def _new_text(self, pair: Pair) -> tuple[str, ...]:
        reader = self._witnesses.reader
        return () if reader is None else new_words(reader, pair.original, pair.edited, pair.mask)


def _pictures_bytes(request: WitnessRequest) -> int:
    """The original and the edited picture, decoded."""
    height, width = request.edited.shape
    return 6 * height * width


def _with_verdict(edit: Edit) -> Edit:
    return replace(edit, verdict="rejected" if edit.reasons else "accepted")


class QuestioningStage:
    """As `CertifyStage`, and where nothing speaks against a candidate, a chat model is asked about it.

    An answer that is no plain yes is the reason `question_failed`.
    """

    def __init__(
        self, certify: CertifyStage, chat: ChatModel, questions: Sequence[str], vocabulary: Vocabulary
    ) -> None:
        self._certify = certify
        self._chat = chat
        self._questions = tuple(questions)
        self._vocabulary = vocabulary

    def run_shard(self, shard: pa.Table) -> BatchResult[Edit]:
        certified = self._certify.run_shard(shard)
        unopposed = [edit for edit in certified.ok if not edit.reasons]
        batching = Batching(self._certify.batching.size, lambda one: 4 * one.mask.size)
        asked = run_network(unopposed, self, batching, key=lambda edit: edit.edit_id)
        answered = {edit.edit_id: edit for edit in asked.ok}
        kept = [answered.get(edit.edit_id, edit) for edit in certified.ok if edit.reasons or edit.edit_id in answered]
        return BatchResult(kept, [*certified.rejected, *asked.rejected])

    def prepare(self, row: Edit) -> Asked:
        blobs = self._certify.workspace.blobs
        return Asked(row, decode_stored(blobs.get(row.edited_id)), decode_mask(blobs.get(row.mask)))

    def run(self, pieces: Sequence[Asked]) -> list[tuple[Answer, ...]]:
        return ask(self._chat, self._questions, self._vocabulary, pieces)

    def finish(self, row: Edit, _: Asked, answer: tuple[Answer, ...]) -> list[Edit]:
        assert row.certificate is not None
        reasons = reasons_against(("question_failed", not all(one.passed for one in answer)))
        return [_with_verdict(replace(row, certificate=replace(row.certificate, answers=answer), reasons=reasons))]
