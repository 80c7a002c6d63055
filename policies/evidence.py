"""What is known of an image, as far as rules may ask: which things it shows, where, how often and how surely."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from policies.vocabulary import Vocabulary

Box = tuple[float, float, float, float]

_BESIDE = 0.5  # how far apart two things may be that stand beside each other, in longer sides of the first


@dataclass(frozen=True, slots=True)
class Thing:
    """One thing of a kind. Without a box nobody knows where it is; `several` may be more than one."""

    box: Box | None = None
    certain: bool = True
    several: bool = False


@dataclass(frozen=True)
class Evidence:
    """The things of an image by attribute. `unknown` may be there too; what is neither is absent.

    `blind` says that nobody looked, so that anything may be there.
    """

    vocabulary: Vocabulary
    things: Mapping[str, tuple[Thing, ...]]
    unknown: frozenset[str] = frozenset()
    blind: bool = False

    @classmethod
    def named(cls, vocabulary: Vocabulary, present: Iterable[str] | None, unknown: Iterable[str] = ()) -> "Evidence":
        """From names alone, which say neither how many there are nor where. With `present` None nobody looked."""
        things = {name: (Thing(several=True),) for name in present or ()}
        return cls(vocabulary, things, frozenset(unknown), blind=present is None)

    @classmethod
    def located(
        cls, vocabulary: Vocabulary, seen: Iterable[tuple[str, Sequence[float], float]], unknown: Iterable[str] = ()
    ) -> "Evidence":
        """From each thing that was located: attribute, box (xyxy) and score (0..1).

        A score below the attribute's `certain_from` makes it doubtful.
        """
        things: dict[str, tuple[Thing, ...]] = {}
        for name, (x0, y0, x1, y1), score in seen:
            certain = name not in vocabulary or score >= vocabulary[name].certain_from
            things[name] = (*things.get(name, ()), Thing((x0, y0, x1, y1), certain))
        return cls(vocabulary, things, frozenset(unknown))

    def kept(self, after: Iterable[str], edited: Collection[str]) -> "Evidence":
        """What an edit left: the names `after` it, where and how often as before unless it was to change that kind."""
        same = {name: self.things[name] for name in after if name in self.things and name not in edited}
        return replace(self, things={name: same.get(name, (Thing(several=True),)) for name in after})

    @property
    def foreign(self) -> frozenset[str]:
        """Names outside the vocabulary, of which no rule can speak."""
        return frozenset({*self.things, *self.unknown} - self.vocabulary.keys())

    def of_kind(self, attribute: str) -> list[Thing]:
        """The things that are, or may be, an attribute or one of its kinds.

        A thing of a more general kind may be one: of what was only called a weapon nobody knows whether it is a gun.
        """
        kinds, general = self.vocabulary.kinds(attribute), self.vocabulary.general(attribute) - {attribute}
        surely = [thing for name in kinds for thing in self.things.get(name, ())]
        perhaps = [replace(thing, certain=False) for name in general for thing in self.things.get(name, ())]
        return surely + perhaps

    def count(self, attributes: Collection[str]) -> tuple[float, float]:
        """The least and the greatest number of things of these kinds."""
        kinds = frozenset().union(*(self.vocabulary.kinds(name) for name in attributes))
        above = frozenset().union(*(self.vocabulary.general(name) for name in attributes)) - kinds
        inside = [thing for name in kinds for thing in self.things.get(name, ())]
        outside = [thing for name in above for thing in self.things.get(name, ())]
        least = sum(thing.certain for thing in inside)
        endless = self.blind or not self.unknown.isdisjoint(kinds | above)
        endless = endless or any(thing.several for thing in inside + outside)
        return least, inf if endless else len(inside) + len(outside)

    def without_excused(self, excused: Collection[str], by: Collection[str]) -> "Evidence":
        """This, less the things of the first kinds that have one of the second kinds beside them.

        What perhaps has one beside it becomes doubtful.
        """
        kinds = frozenset().union(*(self.vocabulary.kinds(name) for name in excused))
        excuses = [thing for name in by for thing in self.of_kind(name)]
        near = frozenset().union(*(self.vocabulary.kinds(name) | self.vocabulary.general(name) for name in by))
        maybe = self.blind or not self.unknown.isdisjoint(near)
        kept = dict(self.things)
        for name in kinds & kept.keys():
            judged = [(thing, _excuse(thing, excuses)) for thing in kept[name]]
            kept[name] = tuple(
                replace(thing, certain=thing.certain and excuse is False and not maybe)
                for thing, excuse in judged
                if excuse is not True
            )
        return replace(self, things=kept)


Shown = Evidence | Collection[str]
"""What an image shows: the evidence, or no more than the names."""


def _excuse(thing: Thing, excuses: Iterable[Thing]) -> bool | None:
    """Whether one of the excuses stands beside a thing; None where that is not known."""
    beside = [_beside(thing.box, excuse.box) if excuse.box and thing.box else None for excuse in excuses]
    sure = [excuse.certain and near for excuse, near in zip(excuses, beside, strict=True)]
    if any(value is True for value in sure):
        return True
    return None if any(near is not False for near in beside) else False


def _beside(thing: Box, other: Box) -> bool:
    """Whether the gap between two boxes (xyxy) is at most half of the first one's longer side."""
    across = max(other[0] - thing[2], thing[0] - other[2], 0.0)
    down = max(other[1] - thing[3], thing[1] - other[3], 0.0)
    return max(across, down) <= _BESIDE * max(thing[2] - thing[0], thing[3] - thing[1])
