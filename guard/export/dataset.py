"""What an export is made from: one frozen object that holds every record, and no pixels."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

from guard.export.confirmed import Confirmed
from policies.engine import PolicySet
from policies.evidence import Evidence, Shown
from storage.errors import FatalError
from storage.records.annotation import Label
from storage.records.editing import Edit
from storage.records.images import Image
from storage.records.recaption import CaptionDelta, Recaption
from storage.records.rejection import Rejection
from storage.records.verdicts import EditKind

Role = Literal["original", "edited", "sham", "roundtrip"]
ROLE_OF: Mapping[EditKind, Role] = {"remove": "edited", "insert": "edited", "sham": "sham", "roundtrip": "roundtrip"}
ROLES: tuple[Role, ...] = ("original", "edited", "sham", "roundtrip")


class Agreement(Protocol):
    """How far annotators agree under one policy; a measure that is not defined is None or NaN."""

    @property
    def policy_id(self) -> str: ...
    @property
    def n_items(self) -> int: ...
    @property
    def raw(self) -> float | None: ...
    @property
    def kappa(self) -> float | None: ...
    @property
    def alpha(self) -> float | None: ...


@dataclass(frozen=True, slots=True)
class StageCount:
    """Rows of one stage over the whole build; `rejected` counts them by reason code."""

    name: str
    rows_in: int
    rows_out: int
    rejected: Mapping[str, int] = field(default_factory=dict)
    says: str = ""  # what the stage does, for people


@dataclass(frozen=True, slots=True)
class ImageRow:
    """One image of the data, original or edited. An edit inherits licence and exportability from its original."""

    image_id: str
    blob: str
    original_id: str  # its own id for an original
    family_id: str
    role: Role
    width: int
    height: int
    licence: str
    exportable: bool
    phash: str  # 16 hex digits

    @property
    def stem(self) -> str:
        """16 hex digits that an original shares with its edits."""
        return self.original_id[:16]

    @property
    def file_name(self) -> str:
        """`<stem>.png` for an original, `<stem>_edited.png` for its twin."""
        return f"{self.stem}.png" if self.role == "original" else f"{self.stem}_{self.role}.png"

    @property
    def order(self) -> tuple[str, str, int, str]:
        """Families together, an original before its edits."""
        return self.family_id, self.original_id, ROLES.index(self.role), self.image_id


@dataclass(frozen=True)
class Dataset:
    """Every record of an export, in one order whatever order it came in. Made by `assemble`."""

    images: Mapping[str, ImageRow]  # by image_id
    pairs: tuple[Edit, ...]  # accepted edits, at most one per original and role
    recaptions: tuple[Recaption, ...]  # accepted
    labels: tuple[Label, ...]  # cells of the matrix, conflicts and gaps included
    policies: PolicySet
    agreement: tuple[Agreement, ...]
    stages: tuple[StageCount, ...]
    rejections: Mapping[str, tuple[Rejection, ...]]  # by stage
    dropped: Mapping[str, int]  # records that could not be used, by reason
    candidates: tuple[Edit, ...] = ()  # every edit that was tried, whatever its verdict
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # what an image shows, by its id
    evidence: Mapping[str, Evidence] = field(default_factory=dict)  # the same, with places and counts
    prefilled: frozenset[str] = frozenset()  # images that people judged with the rules' verdicts before their eyes
    deltas: Mapping[str, CaptionDelta] = field(default_factory=dict)  # how a pair's captions differ, by edit_id
    reworded: Mapping[str, int] = field(default_factory=dict)  # votes given under other words of a policy, by its id
    confirmed: Confirmed = field(default_factory=Confirmed)

    @cached_property
    def matrix(self) -> Mapping[tuple[str, str], Label]:
        """Labels by (image_id, policy_id)."""
        return {(x.image_id, x.policy_id): x for x in self.labels}

    @cached_property
    def edit_of(self) -> Mapping[str, Edit]:
        """The edit that made an image, by the image's id."""
        return {e.edited_id: e for e in self.pairs}

    @cached_property
    def paired(self) -> frozenset[str]:
        """Ids of originals that have an edited version."""
        return frozenset(e.image_id for e in self.pairs)

    def shown(self, image_id: str) -> Shown:
        """What rules may ask about an image; the names of what it shows where nothing more is known."""
        return self.evidence.get(image_id) or self.attributes[image_id]

    @property
    def simulated(self) -> bool:
        """Whether any label came from a scripted annotator."""
        return self.confirmed.simulated or any(x.simulated for x in self.labels)

    def sorted_images(self) -> list[ImageRow]:
        return sorted(self.images.values(), key=lambda i: i.order)


@dataclass(frozen=True)
class Records:
    """What a Dataset is made from, in any order: each as `Dataset` has it, but for what cannot be used."""

    images: Iterable[Image]
    edits: Iterable[Edit]
    recaptions: Iterable[Recaption]
    labels: Iterable[Label]
    policies: PolicySet
    agreement: Iterable[Agreement] = ()
    stages: Iterable[StageCount] = ()
    rejections: Mapping[str, Sequence[Rejection]] = field(default_factory=dict)
    candidates: Iterable[Edit] = ()
    attributes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    evidence: Mapping[str, Evidence] = field(default_factory=dict)  # the same, with places and counts
    deltas: Iterable[CaptionDelta] = ()
    prefilled: Iterable[str] = ()
    reworded: Mapping[str, int] = field(default_factory=dict)
    confirmed: Confirmed = field(default_factory=Confirmed)
    minors: Iterable[str] = ()  # images that may show a minor beside something sensitive, as people say


def assemble(records: Records) -> Dataset:
    """A Dataset from storage records.

    Only edits and recaptions whose verdict is `accepted` are used. Records about an image that is not there any
    more (its build changed since) are dropped and counted, and so is an edit whose bytes equal another image.
    Raises FatalError when an original has two accepted edits of one role, or a cell two labels.
    """
    dropped: Counter[str] = Counter()
    images, blocked = list(records.images), _blocked(records)
    rows = {i.image_id: _original(i) for i in images if i.image_id not in blocked}
    dropped["image_minor"] += len(images) - len(rows)
    pairs = _pairs([e for e in records.edits if e.verdict == "accepted"], rows, dropped)
    labels = _usable_labels(records, rows, dropped)
    captions = _usable_captions(records.recaptions, rows, dropped)
    return Dataset(
        images=rows,
        pairs=tuple(pairs),
        recaptions=tuple(sorted(captions, key=lambda r: rows[r.image_id].order)),
        labels=tuple(sorted(labels, key=lambda x: (*rows[x.image_id].order, x.policy_id))),
        policies=records.policies,
        agreement=tuple(sorted(records.agreement, key=lambda a: a.policy_id)),
        stages=tuple(records.stages),
        rejections={k: tuple(sorted(v, key=lambda r: (r.code, r.key))) for k, v in records.rejections.items()},
        dropped={code: n for code, n in sorted(dropped.items()) if n},
        candidates=tuple(sorted(records.candidates, key=lambda e: e.edit_id)),
        attributes={k: tuple(v) for k, v in sorted(records.attributes.items()) if k in rows},
        evidence={k: v for k, v in records.evidence.items() if k in rows},
        deltas={x.edit_id: x for x in sorted(records.deltas, key=lambda x: x.edit_id)},
        prefilled=frozenset(records.prefilled) & rows.keys(),
        reworded=dict(sorted(records.reworded.items())),
        confirmed=records.confirmed,
    )


def _blocked(records: Records) -> set[str]:
    """Originals that must not leave, for what people say of them or of one of their edits."""
    minors = set(records.minors)
    return minors | {edit.image_id for edit in records.edits if edit.edited_id in minors}


def _usable_labels(records: Records, rows: Mapping[str, ImageRow], dropped: Counter[str]) -> list[Label]:
    labels, known = list(records.labels), {p.id for p in records.policies}
    _once([(x.image_id, x.policy_id) for x in labels], "labels for one image and policy")
    usable = [x for x in labels if x.image_id in rows and x.policy_id in known]
    dropped["label_without_image_or_policy"] += len(labels) - len(usable)
    return usable


def _usable_captions(
    recaptions: Iterable[Recaption], rows: Mapping[str, ImageRow], dropped: Counter[str]
) -> list[Recaption]:
    accepted = [r for r in recaptions if r.verdict == "accepted"]
    _once([r.image_id for r in accepted], "accepted recaptions of one image")
    usable = [r for r in accepted if r.image_id in rows]
    dropped["recaption_without_image"] += len(accepted) - len(usable)
    return usable


def _original(image: Image) -> ImageRow:
    return ImageRow(
        image_id=image.image_id,
        blob=image.blob,
        original_id=image.image_id,
        family_id=image.family_id,
        role="original",
        width=image.width,
        height=image.height,
        licence=image.licence,
        exportable=image.exportable,
        phash=image.phash,
    )


def _pairs(edits: Sequence[Edit], rows: dict[str, ImageRow], dropped: Counter[str]) -> list[Edit]:
    """The usable edits in order; their twins are added to `rows`."""
    kept = []
    for edit in sorted(edits, key=lambda e: (e.family_id, e.image_id, ROLES.index(ROLE_OF[e.kind]), e.edit_id)):
        original = rows.get(edit.image_id)
        if original is None or original.role != "original":
            dropped["edit_without_original"] += 1
        elif edit.edited_id in rows:
            dropped["edit_equals_another_image"] += 1
        else:
            kept.append(edit)
            rows[edit.edited_id] = dataclasses.replace(
                original,
                image_id=edit.edited_id,
                blob=edit.edited_id,
                role=ROLE_OF[edit.kind],
                width=edit.width,
                height=edit.height,
                phash=edit.phash,
            )
    _once([(e.image_id, ROLE_OF[e.kind]) for e in kept], "accepted edits of one original and role; select one of them")
    return kept


def _once(keys: Sequence[object], what: str) -> None:
    repeated = [k for k, n in Counter(keys).items() if n > 1]
    if repeated:
        raise FatalError(f"There are several {what} (for example {repeated[0]}).")


def exportable_part(dataset: Dataset) -> tuple[Dataset, int]:
    """The Dataset without images that may not leave the workspace, and how many those are."""
    images = {k: v for k, v in dataset.images.items() if v.exportable}
    return restricted(dataset, images), len(dataset.images) - len(images)


def restricted(dataset: Dataset, images: Mapping[str, ImageRow]) -> Dataset:
    """The Dataset of these images alone, with what is known about them."""
    return dataclasses.replace(
        dataset,
        images=images,
        pairs=tuple(e for e in dataset.pairs if e.edited_id in images),
        recaptions=tuple(r for r in dataset.recaptions if r.image_id in images),
        labels=tuple(x for x in dataset.labels if x.image_id in images),
    )
