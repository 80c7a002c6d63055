"""What people said, and the labels that follow from it."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from storage.records.verdicts import DerivedVerdict, LabelStatus, Verdict


@dataclass(frozen=True, slots=True)
class Vote:
    """One annotator's verdict on one image under one policy, of which the hash tells what it said at that time."""

    SCHEMA_VERSION: ClassVar[int] = 1

    image_id: str
    policy_id: str
    verdict: Verdict
    rules: tuple[str, ...]
    annotator: str
    simulated: bool
    duration_s: float
    comment: str
    project_id: int
    task_id: int
    annotation_id: int
    updated_at: str  # ISO 8601, as the server says
    boxes: tuple[tuple[int, ...], ...] = ()  # what the annotator drew around, if anything; one set per annotation
    policy_hash: str = ""  # "" in rows from before it was kept; annotation/vote_store.py fills it in


@dataclass(frozen=True, slots=True)
class EditRating:
    """One person's judgement of one edit, as said of the edited image. `original_shows` tells whether the original
    was seen to show the thing at all: without that, `gone` says little."""

    SCHEMA_VERSION: ClassVar[int] = 1

    edit_id: str
    gone: bool
    original_shows: bool
    damaged: bool
    realistic: bool
    annotator: str
    simulated: bool
    duration_s: float
    comment: str
    annotation_id: int
    updated_at: str


@dataclass(frozen=True, slots=True)
class Label:
    """One cell of the label matrix. `verdict` is None unless status is `agreed` or `adjudicated`."""

    SCHEMA_VERSION: ClassVar[int] = 1

    image_id: str
    policy_id: str
    verdict: Literal["safe", "unsafe"] | None
    status: LabelStatus
    rules: tuple[str, ...]
    votes_safe: int
    votes_unsafe: int
    votes_unsure: int
    derived: DerivedVerdict
    derived_rules: tuple[str, ...]
    rule_conflict: bool  # humans decided and the rules say the opposite
    simulated: bool  # some vote came from a scripted annotator
