"""Certify: a recaption is kept only when it restores what was missing and changes nothing else."""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import pyarrow as pa

from policies.people import MINORS
from policies.vocabulary import Vocabulary
from recaption.answers import is_refusal
from recaption.grounding import IN_IMAGE, Fault, faults_of, related, speaks_of_a_finding
from recaption.lexicon import (
    RELATIONS,
    STRONG_VERDICTS,
    VERDICTS,
    is_content,
    vague_words,
)
from recaption.reading import Reading, Wanted, wanted
from recaption.said import denying_words, doubted
from recaption.settings import MinimalitySettings
from recaption.spans import sentence_around, sentences, words
from storage.errors import SampleError
from storage.records.recaption import Recaption, Span
from storage.records.rejection import Rejection
from storage.records.tables import from_table
from storage.stage import BatchResult, in_batches, reject

# With this many foreign words below the kept ratio, a text is a new caption, and naming single facts says little.
_PARAPHRASE_WORDS = 3


def judge(recaption: Recaption, settings: MinimalitySettings, vocabulary: Vocabulary) -> tuple[str, ...]:
    """The reason codes against a recaption, the gravest first; empty means accepted."""
    return tuple(fault.code for fault in faults(recaption, settings, vocabulary))


def faults(recaption: Recaption, settings: MinimalitySettings, vocabulary: Vocabulary) -> list[Fault]:
    """Everything that speaks against a recaption, the gravest first and each code once, with its words.

    What the codes mean: `storage/reasons.py`. What was put in is judged by `faults_of`.
    """
    need = wanted(recaption, vocabulary)
    by_span = [faults_of(span, need, vocabulary) for span in recaption.inserted]
    put_in = [fault for found in by_span for fault in found]
    corrected = denying_words(recaption.caption, recaption.attributes, vocabulary)
    checks = (
        ("verdict_word", _verdicts(recaption, vocabulary)),
        ("finding_denied", _nouns(_denied(recaption, vocabulary), vocabulary)),
        ("minor_in_sentence", _beside_minors(recaption, need)),
        ("neutral_fact_changed", _lost(recaption, corrected)),
        ("wrong_owner", _moved(recaption, need)),
        *_merged([*put_in, *_doubts(recaption, need, vocabulary), *_miscounted(recaption, need, vocabulary)]),
        ("finding_not_covered", _nouns(_uncovered(recaption, need, by_span, vocabulary), vocabulary)),
    )
    found = [Fault("recaption_refused", ())] if is_refusal(recaption.text) else []
    found += [Fault(code, held) for code, held in checks if held]
    if _kept_ratio(recaption, corrected) < settings.min_kept_ratio:
        foreign = sum(len(fault.words) for fault in put_in if fault.code != "wrong_place")
        at = sum(f.code in ("recaption_refused", "verdict_word") for f in found)
        found.insert(at if foreign >= _PARAPHRASE_WORDS else len(found), Fault("kept_too_little", ()))
    if len(words(recaption.text)) > _most_words(recaption, settings):
        found.append(Fault("too_long", ()))
    return found


def _most_words(recaption: Recaption, settings: MinimalitySettings) -> float:
    length = len(words(recaption.caption))
    return max(
        settings.max_length_ratio * length,
        length + settings.words_per_finding * len(recaption.findings or recaption.attributes),
    )


def _kept_ratio(recaption: Recaption, corrected: Collection[int]) -> float:
    """The share of the caption's words that survive, of those that had to."""
    length = len(words(recaption.caption))
    gone = sum(
        number in corrected or word in vague_words(_lower(span.text))
        for span in recaption.deleted
        for number, word in enumerate(_lower(span.text), span.start)
    )
    return recaption.kept_ratio * length / (length - gone) if length > gone else float(bool(length))


def _merged(put_in: Iterable[Fault]) -> list[tuple[str, tuple[str, ...]]]:
    """One entry per code, in the order of gravity, with all the words."""
    order = (
        "odd_characters",
        "ungrounded_insertion",
        "only_depicted",
        "finding_hedged",
        "wrong_count",
        "wrong_place",
        "witness_denies",
        "needs_witness",
    )
    faults = list(put_in)
    return [(code, tuple(w for f in faults if f.code == code for w in f.words)) for code in order]


def _nouns(attributes: Iterable[str], vocabulary: Vocabulary) -> tuple[str, ...]:
    return tuple(vocabulary[name].noun for name in sorted(attributes))


def _uncovered(
    recaption: Recaption, need: Wanted, by_span: Sequence[Sequence[Fault]], vocabulary: Vocabulary
) -> list[str]:
    """Findings that the text says neither by their own words, nor by words that a witness confirmed or yet may."""
    seen = [span for span in recaption.inserted if IN_IMAGE in span.grounding]
    confirmed = {name for span in seen for name in (*span.grounding, *related(span, need, vocabulary))}
    missing = sorted(need.unsaid - confirmed - _denied(recaption, vocabulary))
    may_be_said = sum(
        need.count.keys().isdisjoint(span.grounding)
        and any(fault.code in ("needs_witness", "witness_denies") for fault in found)
        for span, found in zip(recaption.inserted, by_span, strict=True)
    )
    return missing[may_be_said:]


def _denied(recaption: Recaption, vocabulary: Vocabulary) -> set[str]:
    """Findings that the text says are not there, or all of whose kind it does."""
    kinds = {kind for name in vocabulary.denied(recaption.text) for kind in vocabulary.kinds(name)}
    return kinds & set(recaption.attributes)


def _doubts(recaption: Recaption, need: Wanted, vocabulary: Vocabulary) -> list[Fault]:
    """Findings that the text doubts where the caption did."""
    held = _nouns(doubted(recaption.text, vocabulary) & need.count.keys(), vocabulary)
    return [Fault("finding_hedged", held)] if held else []


def _miscounted(recaption: Recaption, need: Wanted, vocabulary: Vocabulary) -> list[Fault]:
    """Findings of which the text names more than were found, all its words together, or states another number."""
    put_in = [mention for span in recaption.inserted for mention in Reading(span, need, vocabulary).mentions()]
    wrong = []
    for name, count in need.count.items():
        own = [mention for mention in put_in if mention.attribute == name]
        total, more = sum(mention.number for mention in own), sum(mention.more for mention in own)
        stated = any(mention.stated for mention in own)
        if count and total + more != count and (total > count or (total < count and stated)):
            wrong.append(name)
    return [Fault("wrong_count", _nouns(wrong, vocabulary))] if wrong else []


def _beside_minors(recaption: Recaption, need: Wanted) -> tuple[str, ...]:
    """The words for people under age in a sentence that a finding was put into."""
    spans = [span for span in recaption.inserted if speaks_of_a_finding(span, need)]
    return tuple(w for span in spans for w in _lower(sentence_around(recaption.text, span)) if w in MINORS)


def _moved(recaption: Recaption, need: Wanted) -> tuple[str, ...]:
    """What stands where a withheld thing did not, in another sentence, though its words are gone."""
    withheld = {_sentence_number(recaption.caption, span) for span in recaption.deleted if _is_vague(span)}
    spans = [span for span in recaption.inserted if speaks_of_a_finding(span, need)]
    if not withheld or any(_sentence_number(recaption.text, span) in withheld for span in spans):
        return ()
    return tuple(span.text for span in spans)


def _is_vague(span: Span) -> bool:
    return bool(vague_words(_lower(span.text)))


def _sentence_number(text: str, span: Span) -> int:
    return next(n for n, (_, end) in enumerate(sentences(text)) if span.start < end)


def _verdicts(recaption: Recaption, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Judging words: strong ones anywhere, since a kept verdict teaches as much as a new one; others when put in.

    What is part of an attribute's own phrase names a thing: a warning sign, a safe.
    """
    anywhere = [word for word in _beside(recaption.text, vocabulary) if word in STRONG_VERDICTS]
    put_in = [word for span in recaption.inserted for word in _beside(span.text, vocabulary)]
    return tuple(anywhere + [word for word in put_in if word in VERDICTS - STRONG_VERDICTS])


def _beside(text: str, vocabulary: Vocabulary) -> list[str]:
    """The words of a text that name no attribute."""
    return [word for part, name in vocabulary.parts(text) if name is None for word in _lower(part)]


def _lost(recaption: Recaption, corrected: Collection[int]) -> tuple[str, ...]:
    """Caption words with a fact that did not survive in order.

    Verdicts may go, and the denial of a finding. A vague word and what describes it ("a dark object") may give way to
    the finding that it stood for.
    """
    lost, gone = list[str](), list[str]()
    for span in recaption.deleted:
        kept = [w for n, w in enumerate(_lower(span.text), span.start) if n not in corrected]
        stood_for = vague_words(kept) if recaption.attributes else frozenset()
        lost += [word for word in kept if is_content(word) and word not in STRONG_VERDICTS | stood_for]
        gone += kept
    put_in = [word for span in recaption.inserted for word in _lower(span.text)]
    return (*lost, *(_relations(gone) - _relations(put_in)).elements())


def _relations(lower: Iterable[str]) -> Counter[str]:
    return Counter(word for word in lower if word in RELATIONS)


def _lower(text: str) -> list[str]:
    return [word.lower() for word in words(text)]


def certify_batch(
    batch: Sequence[Recaption], *, settings: MinimalitySettings, vocabulary: Vocabulary
) -> BatchResult[Recaption]:
    """Accepted recaptions go on; the others are refused under their gravest reason, all attempts kept."""
    ok: list[Recaption] = []
    rejected: list[Rejection] = []
    for row in batch:
        reasons = judge(row, settings, vocabulary)
        judged = replace(row, verdict="rejected" if reasons else "accepted", reasons=reasons)
        if reasons:
            rejected.append(reject(judged, row.image_id, SampleError(reasons[0], ", ".join(reasons))))
        else:
            ok.append(judged)
    return BatchResult(ok, rejected)


class RecaptionCertifyStage:
    """Recaptions to certified recaptions."""

    def __init__(self, settings: MinimalitySettings, vocabulary: Vocabulary) -> None:
        self._settings, self._vocabulary = settings, vocabulary

    def run_shard(self, shard: pa.Table) -> BatchResult[Recaption]:
        return in_batches(from_table(shard, Recaption), self._step, key=lambda row: row.image_id, size=1024)

    def _step(self, batch: Sequence[Recaption]) -> BatchResult[Recaption]:
        return certify_batch(batch, settings=self._settings, vocabulary=self._vocabulary)
