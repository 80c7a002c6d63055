"""Captions, what is to be restored in them, and what came of it."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from storage.records.verdicts import Decision


@dataclass(frozen=True, slots=True)
class Generation:
    """How a text was generated, and what it cost: all its requests together."""

    model_id: str  # a folder, a hub id or a server's name for it
    revision: str  # "" when none was asked for
    prompt_file: str
    temperature: float  # 0 is greedy
    seed: int
    requests: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Caption:
    """A model's own words about one image. Only status `ok` leaves quarantine."""

    SCHEMA_VERSION: ClassVar[int] = 1

    image_id: str
    text: str
    status: Literal["ok", "refused", "empty", "truncated", "looped"]
    model: str  # fingerprint
    prompt_hash: str
    generation: Generation | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """A finding as a caption may tell it: what is seen, and in which cell of a 3x3 grid, e.g. "lower left"."""

    attribute: str
    place: str
    also: tuple[str, ...] = ()  # neighbouring cells, where its centre is so near a border that they are right, too

    @property
    def places(self) -> tuple[str, ...]:
        """Every place that is right, its own first."""
        return (self.place, *self.also)


@dataclass(frozen=True, slots=True)
class RewriteTask:
    """A caption and what it leaves out."""

    SCHEMA_VERSION: ClassVar[int] = 2

    image_id: str
    caption: str
    attributes: tuple[str, ...]
    findings: tuple[Placed, ...]
    blob: str = ""  # the image, for a rewriter that sees; "" when nobody looks


@dataclass(frozen=True, slots=True)
class Span:
    """A run of words. `start` and `end` (exclusive) count words of the text it belongs to."""

    start: int
    end: int
    text: str
    grounding: tuple[str, ...]  # attributes that account for an inserted span; "image" when a model saw it there


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer of a rewriter, and the reason codes against it."""

    text: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recaption:
    """A caption with its suppressed details restored, and the proof that little else changed."""

    SCHEMA_VERSION: ClassVar[int] = 2

    image_id: str
    caption: str
    text: str
    attributes: tuple[str, ...]  # what had to be restored
    inserted: tuple[Span, ...]  # words of `text`
    deleted: tuple[Span, ...]  # words of `caption`
    kept_ratio: float  # caption words that survive in order
    length_ratio: float
    model: str
    prompt_hash: str
    verdict: Decision | None
    reasons: tuple[str, ...]
    findings: tuple[Placed, ...] = ()  # what the rewriter was given
    attempts: tuple[Attempt, ...] = ()  # every answer of the rewriter, the last one is `text`
    generation: Generation | None = None


@dataclass(frozen=True, slots=True)
class DeltaTask:
    """The texts of a pair, to be compared with what the edit was to remove."""

    SCHEMA_VERSION: ClassVar[int] = 1

    edit_id: str
    original: str  # the original's recaption
    edited: str  # the edited image's own caption
    expected: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CaptionDelta:
    """What an edit removed according to the captions of the original and of the edited image."""

    SCHEMA_VERSION: ClassVar[int] = 1

    edit_id: str
    removed: tuple[str, ...]  # attributes that the original's text names and the edited image's does not
    added: tuple[str, ...]  # the other way round: the edit should add none
    expected: tuple[str, ...]  # what the edit was to remove
    deleted: tuple[Span, ...]  # words of the original's text
    inserted: tuple[Span, ...]  # words of the edited image's caption
    kept_ratio: float  # words of the edited image's caption that stand in the original's text in order
    verdict: Literal["agrees", "disagrees", "undecided"]
    reasons: tuple[str, ...]
