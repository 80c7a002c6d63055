"""What a witness says of an edit: a model that looks at the original and at the edited image, and is believed about the
second only if it found the target in the first. It compares what it sees with what it saw, whoever drew the regions."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from editing.boxes import Region
from editing.locate import LocateRequest, Locator
from policies.vocabulary import Vocabulary
from storage.errors import SampleError
from storage.images import Mask
from storage.reasons import reasons_against

_MANY = 5  # of one thing; models do not count further


@dataclass(frozen=True)
class WitnessRequest:
    """An edited image, and its original where the witness has not seen it yet; `image_id` is the original's."""

    image_id: str
    edited: LocateRequest
    original: LocateRequest | None


@dataclass(frozen=True)
class Testimony:
    """What the witness sees, one attribute for each region that shows it; `before` is None where it was not asked about
    the original. `regions` are those of the edited image."""

    before: tuple[str, ...] | None
    after: tuple[str, ...]
    regions: tuple[Region, ...] = ()

    def inside(self, mask: Mask) -> tuple[str, ...]:
        """What it sees in the edited image with the centre of its box on the bool (height, width) mask."""
        return shown([region for region in self.regions if mask[_centre(region)]])

    @property
    def unknown(self) -> tuple[str, ...]:
        """What it sees in the edited image and the vocabulary does not have, in its own words."""
        return tuple(region.label for region in self.regions if not region.attributes)


def ask_witness(witness: Locator, asked: Sequence[WitnessRequest]) -> list[Testimony | SampleError]:
    """What the witness sees in each edited image and its original: all in one call, and each original once in it."""
    originals = {one.image_id: one.original for one in asked if one.original is not None}
    answers = iter(witness.locate([*originals.values(), *(one.edited for one in asked)]))
    before = {image_id: next(answers) for image_id in originals}
    return [_testimony(before.get(one.image_id), next(answers)) for one in asked]


def _testimony(
    before: tuple[Region, ...] | SampleError | None, after: tuple[Region, ...] | SampleError
) -> Testimony | SampleError:
    if isinstance(before, SampleError):
        return before
    if isinstance(after, SampleError):
        return after
    return Testimony(None if before is None else shown(before), shown(after), after)


def _centre(region: Region) -> tuple[int, int]:
    """Row and column."""
    x0, y0, x1, y1 = region.box
    return (y0 + y1) // 2, (x0 + x1) // 2


def shown(regions: Sequence[Region]) -> tuple[str, ...]:
    """The attributes of all regions, sorted; of two cups both."""
    return tuple(sorted(attribute for region in regions for attribute in region.attributes))


@dataclass(frozen=True)
class Comparison:
    """What a witness saw `before` and `after`, by how often, and what was to be removed."""

    before: Counter[str]
    after: Counter[str]
    targets: frozenset[str]
    vocabulary: Vocabulary

    def reasons(self) -> tuple[str, ...]:
        """The reason codes against the edit."""
        kin = frozenset(a for target in self.targets for a in self._names(target))
        return reasons_against(
            ("witness_blind", any(not self._names(target) for target in self.targets)),
            ("target_still_there", any(self._is_there(target) for target in self.targets)),
            ("neutral_lost", any(_fewer(a, self.before, self.after) for a in self.before.keys() - kin)),
            ("new_attribute", any(_fewer(a, self.after, self.before) for a in self.after.keys() - kin)),
        )

    def attributes_after(self, attributes_before: Collection[str]) -> tuple[str, ...]:
        """What the edited image shows, where the original is known to show `attributes_before`: that of it which the
        witness does not miss, and what only the edited image shows to it."""
        missed = self.before.keys() - self.after.keys()
        missed |= {target for target in self.targets if not self._is_there(target)}
        return tuple(sorted((set(attributes_before) - missed) | (self.after.keys() - self.before.keys())))

    def _names(self, target: str) -> frozenset[str]:
        """The names under which the witness saw it in the original: its own or a kind's, or else a more general one."""
        general = self.vocabulary.general(target) if target in self.vocabulary else frozenset()
        return (self._kinds(target) & self.before.keys()) or (general & self.before.keys())

    def _kinds(self, target: str) -> frozenset[str]:
        return self.vocabulary.kinds(target) if target in self.vocabulary else frozenset({target})

    def _is_there(self, target: str) -> bool:
        """Whether the witness still sees it. Of a more general name it may see others, but fewer than before."""
        kinds = self._kinds(target)
        if kinds & self.after.keys():
            return True
        general = self._names(target) - kinds
        return bool(general) and not any(_fewer(name, self.before, self.after) for name in general)


def _fewer(attribute: str, first: Counter[str], second: Counter[str]) -> bool:
    """Whether there are fewer of it the second time, as far as models count."""
    return min(_MANY, second[attribute]) < min(_MANY, first[attribute])


@dataclass(frozen=True)
class Arrival:
    """What a witness saw before and after something was put in, the mirror of `Comparison`: it must find the thing
    where it was to be put, and must not have found it before. `inside` is what it sees there, `unknown` what it sees
    anywhere that the vocabulary does not have."""

    before: Counter[str]
    after: Counter[str]
    inside: Counter[str]
    unknown: tuple[str, ...]
    target: str
    vocabulary: Vocabulary

    def reasons(self) -> tuple[str, ...]:
        """The reason codes against the insertion."""
        kin = self.vocabulary.kinds(self.target) | self.vocabulary.general(self.target)
        elsewhere = any(self.after[name] > self.inside[name] for name in kin)
        return reasons_against(
            ("minor_beside_sensitive", self._may_show_minor()),
            ("already_there", not kin.isdisjoint(self.before)),
            ("insertion_missing", kin.isdisjoint(self.inside)),
            ("neutral_lost", any(_fewer(a, self.before, self.after) for a in self.before)),
            ("new_attribute", elsewhere or any(_fewer(a, self.after, self.before) for a in self.after.keys() - kin)),
        )

    def _may_show_minor(self) -> bool:
        seen = self.before.keys() | self.after.keys()
        return not seen.isdisjoint(self.vocabulary.perhaps_minors) or bool(self.unknown)  # which may be anybody

    def attributes_after(self, attributes_before: Collection[str]) -> tuple[str, ...]:
        """What the edited image shows: that of `attributes_before` which the witness does not miss, and what only the
        edited image shows to it, by the name that it gives."""
        missed = self.before.keys() - self.after.keys()
        return tuple(sorted((set(attributes_before) - missed) | (self.after.keys() - self.before.keys())))
