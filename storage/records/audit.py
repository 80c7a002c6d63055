"""What `guardset audit` finds of each pair of somebody's set."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class PairLabel:
    """What the source says of both sides under one policy: safe, unsafe, "both" where it contradicts itself, or ""."""

    policy: str
    original: str
    edited: str


@dataclass(frozen=True, slots=True)
class AuditedPair:
    """One pair. `verdict` is `good`, or the gravest of `reasons`, which are codes of the catalogue.

    Ids are hashes of the source's bytes, "" for a side that is missing or unreadable. `regions` are boxes of what
    changed, in pixels of the original; the measures are those of `editing.pair_change.Change`.
    """

    SCHEMA_VERSION: ClassVar[int] = 1

    pair_id: str
    role: str  # of the edited side: edited, sham, roundtrip; original where it has no partner
    verdict: str
    reasons: tuple[str, ...]
    detail: str  # a sentence, where a picture could not be read
    original: str  # name in the source
    edited: str
    original_id: str
    edited_id: str
    family_id: str  # pairs that show one picture share it
    original_split: str
    edited_split: str
    labels: tuple[PairLabel, ...]
    original_size: tuple[int, ...] = ()  # width, height
    edited_size: tuple[int, ...] = ()
    shift_px: float = 0.0
    zoom: float = 1.0
    mirrored: bool = False
    cast: float = 0.0  # levels of 255
    changed_share: float = 0.0
    regions: tuple[tuple[int, ...], ...] = ()  # x0, y0, x1, y1
    detail_kept: float | None = None
    outside_share: float | None = None
