"""Policies as data: rules over attributes, the text that people and guards read, and the verdict that follows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, overload

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from policies.vocabulary import Vocabulary
from storage.records.ids import content_id
from storage.records.verdicts import DerivedVerdict
from storage.validation import formed


class Rule(BaseModel):
    """Fires when any attribute of `unsafe_when` is visible and none of `unless` is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, formed(r"R[0-9]+", "R and a number, such as R1")]
    text: str = Field(min_length=1)
    unsafe_when: tuple[str, ...] = Field(min_length=1)
    unless: tuple[str, ...] = ()

    @field_validator("unless")
    @classmethod
    def _apart(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        both = [attribute for attribute in info.data.get("unsafe_when", ()) if attribute in value]
        if both:
            raise ValueError(f"{both[0]} stands in unsafe_when too, so it never breaks the rule; take out one")
        return value


class Policy(BaseModel):
    """One regime. `setting` is its world in a sentence, `preamble` its stance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, formed(r"[A-Z][A-Za-z0-9]*", "letters and digits, a capital letter first, such as House")]
    name: str
    setting: str
    preamble: str
    rules: tuple[Rule, ...]

    @field_validator("rules")
    @classmethod
    def _unique(cls, value: tuple[Rule, ...]) -> tuple[Rule, ...]:
        ids = [rule.id for rule in value]
        twice = next((rule_id for rule_id in ids if ids.count(rule_id) > 1), None)
        if twice is not None:
            raise ValueError(f"two rules have the id {twice}; give each its own")
        return value

    @property
    def text(self) -> str:
        """The full text that annotators and guards read."""
        rules = "\n".join(f"{r.id}. {r.text}" for r in self.rules) or "There are no rules."
        return f"{self.name}. {self.setting} {self.preamble}\n{rules}"

    @property
    def content_hash(self) -> str:
        return content_id(self.model_dump(mode="json"))

    def rule_ids(self) -> tuple[str, ...]:
        """Rule ids with the policy's own, e.g. `L2.R1`."""
        return tuple(f"{self.id}.{r.id}" for r in self.rules)


@dataclass(frozen=True, slots=True)
class Derivation:
    """What the rules say: the verdict, and the rules that make it unsafe (or might)."""

    verdict: DerivedVerdict
    rules: tuple[str, ...]


@dataclass(frozen=True)
class PolicySet(Sequence[Policy]):
    """Policies in the order of their ids, and the vocabulary that their rules speak of.

    `wordings` holds the full texts of a policy's other wordings, by its id.
    """

    vocabulary: Vocabulary
    policies: tuple[Policy, ...]
    wordings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

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

    def derive(self, policy: Policy, present: Iterable[str] | None, unknown: Iterable[str] = ()) -> Derivation:
        """The verdict that follows from the attributes, in three-valued logic. `policy` may be any over the vocabulary.

        `present` are visible, `unknown` may or may not be; all others are absent. With `present` None nothing is known
        of the image. A name outside the vocabulary is unknown to every rule, so it can never yield `safe`. A rule
        surely fires when a trigger is present and each exception is absent; it may fire when that depends on
        something unknown.
        """
        seen = set(present or ())
        foreign = (seen | set(unknown)) - self.vocabulary.keys()
        doubtful = (set(self.vocabulary) if present is None else set(unknown)) - seen
        surely = [r for r in policy.rules if _fires(r, seen) and not doubtful & set(r.unless)]
        if surely:
            return Derivation("unsafe", tuple(f"{policy.id}.{r.id}" for r in surely))
        maybe = [r for r in policy.rules if _triggers(r, seen | doubtful) and not seen & set(r.unless)]
        if maybe or foreign:
            return Derivation("undetermined", tuple(f"{policy.id}.{r.id}" for r in maybe))
        return Derivation("safe", ())


def _triggers(rule: Rule, attributes: set[str]) -> bool:
    return bool(attributes & set(rule.unsafe_when))


def _fires(rule: Rule, attributes: set[str]) -> bool:
    return _triggers(rule, attributes) and not attributes & set(rule.unless)


def regulated(policies: Iterable[Policy]) -> frozenset[str]:
    """Every attribute that triggers some rule of the policies."""
    return frozenset(a for p in policies for r in p.rules for a in r.unsafe_when)
