"""Certify: a recaption is kept only when it restores what was missing and changes nothing else."""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from policies.attributes import mentioned
from policies.phrases import POSITIONS
from recaption.answers import is_refusal
from recaption.settings import CertifySettings
from recaption.spans import words
from storage.errors import SampleError
from storage.records import Recaption, Rejection, Span, from_table
from storage.stage import BatchResult, in_batches, reject

CERTIFY_VERSION = 1

# Stage 1 teaches what an image shows, never what to think of it.
_VERDICTS = frozenset(
    "safe unsafe harmful dangerous illegal inappropriate offensive violation violates violating forbidden prohibited "
    "banned policy policies".split()
)
# Words that carry no fact of their own: an inserted run may hold them beside what grounds it.
_CONNECTIVES = frozenset("a an the and with also of in on at to near beside by is are there its it , . ; :".split()) | {
    word for position in POSITIONS for word in position.split()
}
_COLOURS = frozenset("red orange yellow green blue purple pink brown black white grey gray golden silver beige".split())
_COUNTS = frozenset("one two three four five six seven eight nine ten several many no none".split())


def judge(recaption: Recaption, cfg: CertifySettings) -> tuple[str, ...]:
    """The reason codes against a recaption, the gravest first; empty means accepted.

    An inserted run of words is grounded when it names a missing finding, or holds only connectives and places.
    """
    put_in = [span.text.lower().split() for span in recaption.inserted]
    taken_out = {word for span in recaption.deleted for word in span.text.lower().split()}
    room = max(
        cfg.max_length_ratio * len(words(recaption.caption)),
        len(words(recaption.caption)) + cfg.words_per_finding * len(recaption.attributes),
    )
    named = {attribute for span in recaption.inserted for attribute in span.grounding}
    missing = set(recaption.attributes)
    checks = (
        ("recaption_refused", is_refusal(recaption.text)),
        ("verdict_word", any(_VERDICTS & set(span) for span in put_in)),
        ("ungrounded_insertion", bool(named - missing) or not all(map(_grounded, recaption.inserted))),
        ("finding_not_covered", bool(missing - mentioned(recaption.text))),
        ("neutral_fact_changed", any(_is_fact(word) for word in taken_out) or bool(_lost(recaption))),
        ("kept_too_little", recaption.kept_ratio < cfg.min_kept_ratio),
        ("too_long", len(words(recaption.text)) > room),
    )
    return tuple(code for code, failed in checks if failed)


def _grounded(span: Span) -> bool:
    return bool(span.grounding) or set(span.text.lower().split()) <= _CONNECTIVES


def _is_fact(word: str) -> bool:
    return word in _COLOURS or word in _COUNTS or word.isdigit()


def _lost(recaption: Recaption) -> frozenset[str]:
    return mentioned(recaption.caption) - mentioned(recaption.text)


def certify_batch(batch: Sequence[Recaption], *, cfg: CertifySettings) -> BatchResult[Recaption]:
    """Accepted recaptions go on; the others are refused under their gravest reason, both texts kept."""
    ok: list[Recaption] = []
    rejected: list[Rejection] = []
    for row in batch:
        reasons = judge(row, cfg)
        judged = replace(row, verdict="rejected" if reasons else "accepted", reasons=reasons)
        if reasons:
            rejected.append(reject(judged, row.image_id, SampleError(reasons[0], ", ".join(reasons))))
        else:
            ok.append(judged)
    return BatchResult(ok, rejected)


class RecaptionCertifyStage:
    """Recaptions to certified recaptions."""

    def __init__(self, cfg: CertifySettings) -> None:
        self._cfg = cfg

    def run_shard(self, shard: pa.Table) -> BatchResult[Recaption]:
        return in_batches(from_table(shard, Recaption), self._step, key=lambda row: row.image_id, size=1024)

    def _step(self, batch: Sequence[Recaption]) -> BatchResult[Recaption]:
        return certify_batch(batch, cfg=self._cfg)
