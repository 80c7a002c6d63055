"""Certify: a recaption is kept only when it restores what was missing and changes nothing else."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pyarrow as pa

from policies.vocabulary import Vocabulary
from recaption.answers import is_refusal
from recaption.grounding import Fault, faults_of, wanted
from recaption.lexicon import RELATIONS, STRONG_VERDICTS, VERDICTS, is_content, vague_words
from recaption.settings import MinimalitySettings
from recaption.spans import words
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
    """Everything that speaks against a recaption, the gravest first and each code once.

    Codes: `recaption_refused`, `verdict_word`, `neutral_fact_changed` (a word with a fact is gone or has moved:
    numbers, colours, counts, names, kinds, places), `ungrounded_insertion` (words that no finding accounts for),
    `extra_fact` (a finding said with more than was found), `wrong_place`, `finding_not_covered`, `kept_too_little`,
    `too_long`.
    """
    need = wanted(recaption.caption, recaption.attributes, recaption.findings)
    put_in = [fault for span in recaption.inserted for fault in faults_of(span, need, vocabulary)]
    uncovered = sorted(set(recaption.attributes) - vocabulary.mentioned(recaption.text))
    verdicts = _verdicts(recaption, vocabulary)
    found = [
        *([Fault("recaption_refused", ())] if is_refusal(recaption.text) else []),
        *([Fault("verdict_word", verdicts)] if verdicts else []),
        *([Fault("neutral_fact_changed", lost)] if (lost := _lost(recaption)) else []),
        *_merged(put_in),
        *([Fault("finding_not_covered", tuple(vocabulary[a].noun for a in uncovered))] if uncovered else []),
    ]
    if recaption.kept_ratio < settings.min_kept_ratio:
        foreign = sum(len(fault.words) for fault in put_in if fault.code != "wrong_place")
        at = sum(f.code in ("recaption_refused", "verdict_word") for f in found)
        found.insert(at if foreign >= _PARAPHRASE_WORDS else len(found), Fault("kept_too_little", ()))
    if len(words(recaption.text)) > _room(recaption, settings):
        found.append(Fault("too_long", ()))
    return found


def _room(recaption: Recaption, settings: MinimalitySettings) -> float:
    length = len(words(recaption.caption))
    return max(
        settings.max_length_ratio * length,
        length + settings.words_per_finding * len(recaption.findings or recaption.attributes),
    )


def _merged(put_in: Iterable[Fault]) -> list[Fault]:
    """One fault per code, in the order of gravity, with all the words."""
    order = ("ungrounded_insertion", "extra_fact", "wrong_place")
    together = [Fault(code, tuple(w for f in put_in if f.code == code for w in f.words)) for code in order]
    present = {fault.code for fault in put_in}
    return [fault for fault in together if fault.code in present]


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


def _lost(recaption: Recaption) -> tuple[str, ...]:
    """Caption words with a fact that did not survive in order.

    Verdicts may go. A vague word and what describes it ("a dark object") may give way to the finding that it stood for.
    """
    lost = []
    for span in recaption.deleted:
        stood_for = vague_words(_lower(span.text)) if recaption.attributes else frozenset()
        lost += [word for word in _content(span) if word not in STRONG_VERDICTS | stood_for]
    relations = _relations(recaption.deleted) - _relations(recaption.inserted)
    return (*lost, *relations.elements())


def _relations(spans: Iterable[Span]) -> Counter[str]:
    return Counter(word for span in spans for word in _lower(span.text) if word in RELATIONS)


def _content(span: Span) -> list[str]:
    return [word for word in _lower(span.text) if is_content(word)]


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
