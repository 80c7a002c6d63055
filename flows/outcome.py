"""What the newest build made, read back from its record: the input of publish, collect, status and export."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, TypeVar

from flows.engine.record import LATEST, newest_record
from flows.pipeline import decided
from flows.settings import Settings
from flows.sources import name_of
from policies.evidence import Evidence
from policies.loading import load_policy_set
from policies.vocabulary import Vocabulary
from storage.errors import FatalError
from storage.records.editing import Edit, Located
from storage.records.images import Image
from storage.records.recaption import Caption, CaptionDelta, Recaption
from storage.records.rejection import Rejection
from storage.records.tables import from_table
from storage.workspace import Workspace

Row = TypeVar("Row")


class Outcome:
    """Rows of a finished build. Each kind is read when it is first asked for, and kept."""

    def __init__(self, workspace: Workspace, record: dict[str, Any]) -> None:
        self._workspace, self.record = workspace, record
        self.build_id: str = record["build_id"]

    def rows(self, stage: str, kind: type[Row]) -> Iterator[Row]:
        """What a stage made, a shard at a time."""
        for fingerprint in self.record["tables"].get(stage, ()):
            yield from from_table(self._workspace.ledger.read(stage, fingerprint), kind)

    @cached_property
    def images(self) -> list[Image]:
        return list(self.rows("dedup", Image))

    @cached_property
    def located(self) -> list[Located]:
        return list(self.rows("locate", Located))

    @cached_property
    def candidates(self) -> list[Edit]:
        """All that were certified."""
        return list(self.rows("certify", Edit))

    @cached_property
    def edits(self) -> list[Edit]:
        """The selected ones."""
        return list(self.rows("select", Edit))

    @cached_property
    def captions(self) -> list[Caption]:
        return list(self.rows("caption", Caption))

    @cached_property
    def recaptions(self) -> list[Recaption]:
        return list(self.rows("certify_recaption", Recaption))

    @cached_property
    def deltas(self) -> list[CaptionDelta]:
        """Empty where edited twins were not captioned."""
        return list(self.rows("delta", CaptionDelta))

    @cached_property
    def rejections(self) -> dict[str, list[Rejection]]:
        """By stage."""
        rejected = self._workspace.ledger.rejected
        tables: dict[str, list[str]] = self.record["tables"]
        return {stage: [row for name in names for row in rejected(stage, name)] for stage, names in tables.items()}

    @property
    def attributes(self) -> dict[str, tuple[str, ...]]:
        """image_id -> what it shows, for originals (as located) and edited twins (as certified)."""
        shown = {row.image_id: row.attributes for row in self.located}
        for edit in self.edits:
            if edit.certificate is not None:
                shown[edit.edited_id] = edit.certificate.attributes_after
        return shown

    def evidence(self, vocabulary: Vocabulary) -> dict[str, Evidence]:
        """image_id -> what rules may ask about it, for originals (as located) and edited twins (as certified)."""
        known = {
            row.image_id: Evidence.located(
                vocabulary,
                ((a, f.box, f.score) for f in row.findings for a in f.attributes),
                unknown={name for label in row.set_aside for name in vocabulary.mentioned(label)},
            )
            for row in self.located
        }
        for edit in self.edits:
            if edit.certificate is not None and edit.image_id in known:
                after = edit.certificate.attributes_after
                known[edit.edited_id] = known[edit.image_id].kept(after, edit.target_attributes)
        return known


def what_changed(workspace: Workspace, settings: Settings) -> list[str]:
    """How a build with these settings differs from the newest one, in sentences; none where nothing was built."""
    record = newest_record(workspace)
    if record is None:
        return []
    policies = load_policy_set(settings.policies)
    before, now = record.get("decided", {}), decided(settings, policies)
    other = [name for name in now if now[name] != before.get(name)]
    sentences = []
    if other:
        sentences.append(
            f"what decides {', '.join(other)} differs from the last build. A build runs these stages, and those that "
            "get other rows from them, on whatever was never run this way."
        )
    hashes = {policy.id: policy.content_hash for policy in policies}
    said = [name for name in hashes if hashes[name] != record["policies"].get(name)]
    gone = [name for name in record["policies"] if name not in hashes]
    if said:
        sentences.append(f"policies that are new or say something else: {', '.join(said)}. Only these are asked anew.")
    if gone:
        sentences.append(f"policies that are gone: {', '.join(gone)}.")
    return sentences


def other_source(workspace: Workspace, source: str) -> str | None:
    """What the newest build read, where it was not this source."""
    before: str | None = (workspace.read_json(LATEST) or {}).get("source")
    return before if before != name_of(source) else None


def read_outcome(workspace: Workspace) -> Outcome:
    """The newest build of a workspace; raises FatalError when nothing was built there."""
    record = newest_record(workspace)
    if record is None:
        raise FatalError(
            f"{workspace.store.root} holds no finished build. "
            "Run `guardset build --input DIR --workspace DIR`; one that was stopped resumes where it left off."
        )
    return Outcome(workspace, record)
