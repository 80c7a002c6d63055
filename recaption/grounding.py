"""What accounts for the words that a rewrite put in: the findings themselves, or a witness who sees the image."""

from collections.abc import Sequence
from dataclasses import dataclass

from policies.vocabulary import Vocabulary
from recaption.lexicon import DEPICTED, HEDGED
from recaption.reading import Reading, Wanted, kin
from storage.reasons import catalogued
from storage.records.recaption import Span

# In `Span.grounding`: what a witness who looked at the image said of the span's words.
IN_IMAGE = "image"
NOT_IN_IMAGE = "not in the image"


@dataclass(frozen=True)
class Fault:
    """A reason code, and the words that brought it about."""

    code: str
    words: tuple[str, ...]

    def __post_init__(self) -> None:
        catalogued(self.code)


def faults_of(span: Span, need: Wanted, vocabulary: Vocabulary) -> list[Fault]:
    """What is wrong with an inserted span, each with its words; empty where nothing is.

    A span may name what was missing, say where it is as the finding does, and hold words without a fact. Whatever else
    it says of a finding is for a witness: `needs_witness`, or `witness_denies` once one has looked and not confirmed
    it. No witness helps a span that only depicts a finding (`only_depicted`), doubts it (`finding_hedged`), counts it
    otherwise (`wrong_count`), puts it elsewhere (`wrong_place`), is no plain text (`odd_characters`), or has nothing
    to do with a finding (`ungrounded_insertion`).
    """
    reading = Reading(span, need, vocabulary)
    checks = (
        ("odd_characters", reading.odd()),
        ("ungrounded_insertion", [*reading.strangers(), *reading.apart_from_findings()]),
        ("only_depicted", reading.of_findings(DEPICTED)),
        ("finding_hedged", reading.of_findings(HEDGED)),
        ("wrong_count", reading.miscounted()),
        ("wrong_place", reading.misplaced()),
    )
    found = [Fault(code, tuple(held)) for code, held in checks if held]
    beyond = reading.beyond()
    if not beyond or IN_IMAGE in span.grounding:
        return found
    if not reading.may_be_about_a_finding:
        return [*found, Fault("ungrounded_insertion", tuple(beyond))]
    return [*found, Fault("witness_denies" if NOT_IN_IMAGE in span.grounding else "needs_witness", tuple(beyond))]


def speaks_of_a_finding(span: Span, need: Wanted) -> bool:
    """Whether a span names a finding, or may."""
    return bool(need.unsaid) or not need.count.keys().isdisjoint(span.grounding)


def is_for_a_witness(faults: Sequence[Fault]) -> bool:
    """Whether a witness may clear a span of everything that speaks against it."""
    return [fault.code for fault in faults] == ["needs_witness"]


def related(span: Span, need: Wanted, vocabulary: Vocabulary) -> frozenset[str]:
    """The findings that a span names by a relative: a kind of them, what they are one of, or a sibling."""
    others = set(span.grounding) - need.count.keys()
    return frozenset(k for name in others for k in kin(name, vocabulary) & need.unsaid)
