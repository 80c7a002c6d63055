"""Which images to label first, when there is time for some of them only.

Three purposes share the budget: controls with known answers measure the annotators; doubtful images (uncertain
findings, rules that are undetermined, edits whose certificate is weak) are where a person's word changes most; the
rest keeps every policy supplied with safe and unsafe images alike. Everything is drawn by hash from the seed, so
the same call gives the same list on every machine, and a larger budget only adds images to the end.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heapreplace
from typing import Literal

from storage.records.ids import content_id
from storage.records.verdicts import DerivedVerdict, Verdict

Purpose = Literal["control", "doubtful", "balance"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An image that may be labelled.

    `derived` is what the rules say, by policy_id. `doubt` is how much a person's word is needed, from 0 (not at all)
    to 1; `known` are right answers by policy_id, when the image may serve as a control.
    """

    image_id: str
    family_id: str
    derived: Mapping[str, DerivedVerdict]
    doubt: float = 0.0
    known: Mapping[str, Verdict] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chosen:
    """An image to be labelled and why it was chosen."""

    image_id: str
    purpose: Purpose


def doubt_of(derived: Mapping[str, DerivedVerdict], score: float = 1.0) -> float:
    """Doubt from what is known without a person: the share of policies whose rules are undetermined, or, if that is
    larger, one minus the locator's lowest confidence `score` (0..1)."""
    undetermined = sum(verdict == "undetermined" for verdict in derived.values())
    return max(undetermined / len(derived) if derived else 0.0, 1.0 - score)


def sample(
    candidates: Sequence[Candidate],
    *,
    budget: int,
    control_share: float = 0.1,
    doubtful_share: float = 0.3,
    seed: int = 0,
) -> list[Chosen]:
    """At most `budget` images, each once, in the order in which they should be published.

    Of any first n of the list, about `control_share` are controls and `doubtful_share` are doubtful (most doubtful
    first, those without doubt never); the others are chosen so that under every policy the derived safe and
    unsafe images become equally many, as far as there are any. What one purpose cannot fill goes to balance,
    then to doubtful. Controls are used for nothing else: beyond their share they are left out. Of one family the
    second image is taken only when no other family is left for the purpose.

    Raises ValueError for a negative budget or shares outside 0..1 or above 1 together.
    """
    if budget < 0 or min(control_share, doubtful_share) < 0 or control_share + doubtful_share > 1:
        raise ValueError("the budget must not be negative, and the shares must lie in 0..1 and not exceed 1 together")
    pools = _Pools(candidates, seed)
    shares: dict[Purpose, float] = {"control": control_share, "doubtful": doubtful_share}
    shares["balance"] = 1 - control_share - doubtful_share
    chosen: list[Chosen] = []
    taken: Counter[Purpose] = Counter()
    while len(chosen) < budget:
        behind = sorted(shares, key=lambda p: taken[p] - shares[p] * (len(chosen) + 1))
        order = [p for p in behind if shares[p] > 0] + [p for p in ("balance", "doubtful") if p not in behind[:1]]
        picked = next(((p, image) for p in order if (image := pools.take(p)) is not None), None)
        if picked is None:
            break
        purpose, image_id = picked
        taken[purpose] += 1
        chosen.append(Chosen(image_id, purpose))
    return chosen


_Signature = tuple[tuple[str, str], ...]  # derived verdicts by policy, sorted


@dataclass(frozen=True, slots=True, order=True)
class _Entry:
    """A candidate in a queue: smaller is sooner. `place` is its lot, unique, so candidates are never compared."""

    family_seen: int
    rank: float
    place: str
    candidate: Candidate = field(compare=False)


def _family(candidate: Candidate) -> str:
    return candidate.family_id or candidate.image_id


class _Pools:
    """The candidates that wait, and how many of each derived verdict were taken per policy."""

    def __init__(self, candidates: Sequence[Candidate], seed: int) -> None:
        unique = {c.image_id: c for c in candidates}.values()
        self._families: Counter[str] = Counter()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._taken: set[str] = set()
        self._seed = seed
        others = [c for c in unique if not c.known]
        self._controls = self._queue([c for c in unique if c.known])
        self._doubtful = self._queue([c for c in others if c.doubt > 0], doubt=True)
        alike: dict[_Signature, list[Candidate]] = defaultdict(list)
        for c in others:
            alike[tuple(sorted(c.derived.items()))].append(c)
        self._alike = {signature: self._queue(some) for signature, some in sorted(alike.items())}

    def take(self, purpose: Purpose) -> str | None:
        """Remove and return the best candidate for the purpose, or None when there is none."""
        best = self._neediest() if purpose == "balance" else self._first(self._queues[purpose])
        if best is None:
            return None
        self._taken.add(best.candidate.image_id)
        self._families[_family(best.candidate)] += 1
        self._counts.update(best.candidate.derived.items())
        return best.candidate.image_id

    @property
    def _queues(self) -> Mapping[str, list[_Entry]]:
        return {"control": self._controls, "doubtful": self._doubtful}

    def _queue(self, candidates: Iterable[Candidate], *, doubt: bool = False) -> list[_Entry]:
        entries = [
            _Entry(0, -c.doubt if doubt else 0.0, content_id("sample", self._seed, c.image_id), c) for c in candidates
        ]
        heapify(entries)
        return entries

    def _first(self, queue: list[_Entry]) -> _Entry | None:
        """The head of a queue, once what was taken is dropped and what has fallen behind is put in its place."""
        while queue:
            head = queue[0]
            seen = self._families[_family(head.candidate)]
            if head.candidate.image_id in self._taken:
                heappop(queue)
            elif head.family_seen != seen:
                heapreplace(queue, _Entry(seen, head.rank, head.place, head.candidate))
            else:
                return head
        return None

    def _neediest(self) -> _Entry | None:
        """The candidate whose verdicts their policies lack most, among those of families least seen."""
        heads = [
            (self._surplus(signature), head) for signature, queue in self._alike.items() if (head := self._first(queue))
        ]
        return min(heads, key=lambda pair: (pair[1].family_seen, pair[0], pair[1].place), default=(0, None))[1]

    def _surplus(self, signature: _Signature) -> int:
        """How far these verdicts are the ones of which their policies have plenty, summed over policies."""
        opposite = {"safe": "unsafe", "unsafe": "safe"}
        return sum(
            self._counts[policy_id, verdict] - self._counts[policy_id, opposite[verdict]]
            for policy_id, verdict in signature
            if verdict in opposite
        )
