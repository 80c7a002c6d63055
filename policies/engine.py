"""Policies as data: rules over what an image shows, the text that people and guards read, and the verdict."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal, overload

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from policies.conditions import Condition, Conditional
from policies.evidence import Evidence, Shown
from policies.vocabulary import Vocabulary, listed
from storage.errors import FatalError
from storage.records.ids import content_id
from storage.records.verdicts import DerivedVerdict
from storage.validation import formed

Severity = Literal["low", "medium", "high"]
RuleId = Annotated[str, formed(r"R[0-9]+", "R and a number, such as R1")]
_NEW = ("safe_when", "overrides", "severity", "closed")  # left out of a hash where they say nothing


class Rule(BaseModel):
    """Makes an image unsafe where `unsafe_when` holds and `unless` does not; with `safe_when`, safe.

    A rule for safe counts against the rules that it `overrides`, and any rule may override others. A rule without a
    condition is text alone: it may hold of every image, so nothing follows from it but doubt.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: RuleId
    text: str = Field(min_length=1)
    unsafe_when: Conditional | None = None
    safe_when: Conditional | None = None
    unless: Conditional | None = None
    overrides: Annotated[tuple[RuleId, ...], BeforeValidator(listed)] = ()
    severity: Severity | None = None

    @field_validator("unless", mode="before")
    @classmethod
    def _none(cls, value: Any) -> Any:
        return value or None

    @model_validator(mode="after")
    def _whole(self) -> "Rule":
        if self.unsafe_when and self.safe_when:
            raise ValueError("has both unsafe_when and safe_when; make two rules of it")
        if self.condition is not None and self.condition.is_near():
            raise ValueError("has near in its condition; it belongs in unless")
        if self.unless is not None and self.condition is None:
            raise ValueError("has an exception and no condition; give unsafe_when or safe_when")
        if self.safe_when and not self.overrides:
            raise ValueError("says safe_when and overrides no rule, so it changes nothing; say which it overrides")
        if self.unsafe_when and self.unless and self.unsafe_when.kind == self.unless.kind == "any":
            both = sorted({*self.unsafe_when.named} & {*self.unless.named})
            if both and {p.kind for p in (*self.unsafe_when.parts, *self.unless.parts)} == {"attribute"}:
                raise ValueError(f"{both[0]} stands in unsafe_when too, so it never breaks the rule; take out one")
        return self

    @property
    def condition(self) -> Condition | None:
        """When it applies, its exception aside; None for a rule that is text alone."""
        return self.unsafe_when or self.safe_when

    @property
    def forbids(self) -> tuple[str, ...]:
        """The attributes of `unsafe_when`."""
        return self.unsafe_when.named if self.unsafe_when else ()

    @property
    def excuses(self) -> tuple[str, ...]:
        """The attributes of `unless`."""
        return self.unless.named if self.unless else ()

    @property
    def excused(self) -> Condition | None:
        """The part of `unless` that holds of the whole image, whatever stands beside what."""
        return self.unless.without_near() if self.unless else None

    @property
    def named(self) -> tuple[str, ...]:
        """Every attribute that condition and exception speak of, once, in order."""
        return tuple(dict.fromkeys(name for c in (self.condition, self.unless) if c for name in c.named))

    def applies(self, seen: Evidence) -> bool | None:
        """Whether condition and exception let it count, overriding rules aside; None where that is not known."""
        if self.condition is None:
            return None
        beside = self.unless.near if self.unless else ()
        left = seen.without_excused(self.condition.named, beside) if beside else seen
        holds, excused = self.condition.holds(left), self.excused.holds(seen) if self.excused else False
        if holds is False or excused is True:
            return False
        return True if holds is True and excused is False else None


class Policy(BaseModel):
    """One regime. `setting` is its world in a sentence, `preamble` its stance.

    A `closed` policy calls safe whatever no rule forbids; one that is open leaves that undetermined.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, formed(r"[A-Z][A-Za-z0-9]*", "letters and digits, a capital letter first, such as House")]
    name: str
    setting: str
    preamble: str
    closed: bool = True
    rules: tuple[Rule, ...]

    @field_validator("rules")
    @classmethod
    def _unique(cls, value: tuple[Rule, ...]) -> tuple[Rule, ...]:
        ids = [rule.id for rule in value]
        twice = next((rule_id for rule_id in ids if ids.count(rule_id) > 1), None)
        if twice is not None:
            raise ValueError(f"two rules have the id {twice}; give each its own")
        for rule in value:
            lost = next((rule_id for rule_id in rule.overrides if rule_id not in ids), None)
            if lost is not None:
                raise ValueError(f"{rule.id} overrides {lost}, which the policy does not have")
        try:
            TopologicalSorter({rule.id: rule.overrides for rule in value}).prepare()
        except CycleError as error:
            raise ValueError(f"rules override each other in a circle: {' -> '.join(error.args[1])}") from error
        return value

    @property
    def text(self) -> str:
        """The full text that annotators and guards read."""
        rules = "\n".join(f"{r.id}. {r.text}" for r in self.rules) or "There are no rules."
        return f"{self.name}. {self.setting} {self.preamble}\n{rules}"

    @property
    def content_hash(self) -> str:
        """Of all that decides a verdict, and of every word."""
        dumped = self.model_dump(mode="json")
        for part in (dumped, *dumped["rules"]):
            part.update({"unless": part["unless"] or []} if "unless" in part else {})
            for name in _NEW:
                if name in part and part[name] in (None, [], True):
                    del part[name]
        return content_id(dumped)

    @property
    def rules_hash(self) -> str:
        """Of what decides a verdict without the words: two policies that differ in it differ in more than wording."""
        rules = tuple(rule.model_copy(update={"text": ""}) for rule in self.rules)
        return self.model_copy(update={"name": "", "setting": "", "preamble": "", "rules": rules}).content_hash

    @property
    def asks_nothing(self) -> bool:
        """Whether it calls every image safe, so that nobody need be asked."""
        return self.closed and not any(rule.safe_when is None for rule in self.rules)

    def rule_ids(self) -> tuple[str, ...]:
        """Rule ids with the policy's own, e.g. `L2.R1`."""
        return tuple(f"{self.id}.{r.id}" for r in self.rules)

    def counting(self, seen: Evidence) -> dict[str, bool | None]:
        """Of each rule by id, whether it counts: it applies, and no rule that counts overrides it; None if unknown."""
        above: dict[str, list[str]] = {rule.id: [] for rule in self.rules}
        for rule in self.rules:
            for overridden in rule.overrides:
                above[overridden].append(rule.id)
        rules = {rule.id: rule for rule in self.rules}
        counts: dict[str, bool | None] = {}
        for rule_id in TopologicalSorter(above).static_order():
            over = {counts[other] for other in above[rule_id]}
            applies = False if True in over else rules[rule_id].applies(seen)
            counts[rule_id] = None if applies is True and None in over else applies
        return {rule.id: counts[rule.id] for rule in self.rules}


@dataclass(frozen=True, slots=True)
class Derivation:
    """What the rules say: the verdict, the rules that make it unsafe (or might), and the gravest severity."""

    verdict: DerivedVerdict
    rules: tuple[str, ...]
    severity: Severity | None = None


@dataclass(frozen=True)
class PolicySet(Sequence[Policy]):
    """Policies in the order of their ids, and the vocabulary that their rules speak of.

    `wordings` holds the full texts of a policy's other wordings, by its id; `categories` what a public data set calls
    its rules: labels and rule ids.
    """

    vocabulary: Vocabulary
    policies: tuple[Policy, ...]
    wordings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    categories: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @overload
    def __getitem__(self, index: int) -> Policy: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Policy, ...]: ...
    def __getitem__(self, index: int | slice) -> Policy | tuple[Policy, ...]:
        return self.policies[index]

    def __iter__(self) -> Iterator[Policy]:
        return iter(self.policies)

    def __len__(self) -> int:
        return len(self.policies)

    def by_id(self, policy_id: str) -> Policy:
        """Raises FatalError for a policy that is not there."""
        for policy in self.policies:
            if policy.id == policy_id:
                return policy
        raise FatalError(f"There is no policy {policy_id}; there are {', '.join(p.id for p in self.policies)}.")

    def derive(self, policy: Policy, present: Shown | None, unknown: Iterable[str] = ()) -> Derivation:
        """The verdict that follows from what an image shows, in three-valued logic.

        `policy` may be any over the vocabulary. `present` is the evidence, or the names of what is visible, where
        `unknown` may or may not be and all others are absent; None means that nobody looked. A name outside the
        vocabulary is unknown to every rule, so it can never yield `safe`. Neither can a rule that is text alone, an
        open policy, or a thing of which only the general kind is known.
        """
        seen = present if isinstance(present, Evidence) else Evidence.named(self.vocabulary, present, unknown)
        counts = policy.counting(seen)
        against = [rule for rule in policy.rules if rule.safe_when is None]
        surely = [rule for rule in against if counts[rule.id] is True]
        found = surely or [rule for rule in against if counts[rule.id] is None]
        rules = tuple(f"{policy.id}.{rule.id}" for rule in found)
        gravest = max((r.severity for r in found if r.severity), key=_GRAVITY.index, default=None)
        if surely or any(_stands(rule, policy, counts, seen) for rule in found):
            return Derivation("unsafe", rules, gravest)
        if found or seen.foreign or not policy.closed:
            return Derivation("undetermined", rules, gravest)
        return Derivation("safe", ())


_GRAVITY: tuple[Severity, ...] = ("low", "medium", "high")


def _stands(rule: Rule, policy: Policy, counts: Mapping[str, bool | None], seen: Evidence) -> bool:
    """Whether the verdict is unsafe although it is not known if this rule counts: where another that makes the image
    unsafe overrides it, or perhaps does not."""
    over = [other for other in policy.rules if rule.id in other.overrides and counts[other.id] is not False]
    return bool(over) and all(other.safe_when is None for other in over) and rule.applies(seen) is True


def regulated(policies: Iterable[Policy], vocabulary: Vocabulary) -> frozenset[str]:
    """Every attribute whose removal may end a violation of some rule, the kinds of a general one included."""
    conditions = [rule.unsafe_when for policy in policies for rule in policy.rules if rule.unsafe_when]
    return frozenset().union(*(condition.triggers(vocabulary) for condition in conditions))
