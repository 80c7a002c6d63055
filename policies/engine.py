"""Policies as data: load them, show their text, derive a verdict from attributes.

A policy file is YAML; a sixth policy is a sixth file. Loading fails on an unknown attribute or a repeated id.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from policies.attributes import vocabulary
from storage.errors import FatalError
from storage.records import DerivedVerdict, content_id
from storage.validation import faults_of


class Rule(BaseModel):
    """Fires when any attribute of `unsafe_when` is visible and none of `unless` is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^R\d+$")
    text: str = Field(min_length=1)
    unsafe_when: tuple[str, ...] = Field(min_length=1)
    unless: tuple[str, ...] = ()

    @field_validator("unsafe_when", "unless")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [a for a in value if a not in vocabulary()]
        if unknown:
            raise ValueError(f"unknown attribute {unknown[0]!r}; attributes.yaml lists those that exist")
        return value


class Policy(BaseModel):
    """One fictional regime. `setting` is its world in a sentence, `preamble` its stance."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[A-Z][A-Za-z0-9]*$")
    name: str
    setting: str
    preamble: str
    rules: tuple[Rule, ...]

    @field_validator("rules")
    @classmethod
    def _unique(cls, value: tuple[Rule, ...]) -> tuple[Rule, ...]:
        if len({r.id for r in value}) != len(value):
            raise ValueError("a rule id is used twice")
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


def load_policies(folder: str | Path | None = None) -> tuple[Policy, ...]:
    """Every policy file `*.yaml` of a folder (default: the five shipped), sorted by id.

    Raises FatalError naming the file and the field when one is not valid.
    """
    paths = _policy_files(folder)
    policies = [_load(Path(name), text) for name, text in paths]
    ids = [p.id for p in policies]
    if len(set(ids)) != len(ids):
        raise FatalError(f"Two policy files have the same id ({', '.join(ids)}). Give each its own.")
    if not policies:
        raise FatalError(f"No policy (*.yaml) in {folder}. See policies/L1.yaml for the form of one.")
    return tuple(sorted(policies, key=lambda p: p.id))


def _policy_files(folder: str | Path | None) -> Iterable[tuple[str, str]]:
    root = files("policies") if folder is None else Path(folder)
    if not root.is_dir():
        raise FatalError(f"The policy folder {folder} does not exist.")
    found = sorted((p for p in root.iterdir() if p.name.endswith(".yaml")), key=lambda p: p.name)
    return [(str(p), p.read_text(encoding="utf-8")) for p in found if p.name != "attributes.yaml"]


def _load(path: Path, text: str) -> Policy:
    try:
        return Policy.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise FatalError(f"{path.name} is not valid YAML: {error}") from error
    except ValidationError as error:
        raise FatalError(f"{path.name}: {faults_of(error, Policy)[0]}") from error


def derive(policy: Policy, present: Iterable[str], unknown: Iterable[str] = ()) -> Derivation:
    """The verdict that follows from the attributes, in three-valued logic.

    `present` are visible, `unknown` may or may not be; all others are absent. A name outside the
    vocabulary is unknown to every rule, so it can never yield `safe`. A rule surely fires when a trigger
    is present and each exception is absent; it may fire when that depends on something unknown.
    """
    seen = set(present)
    foreign = seen - vocabulary().keys()
    doubtful = set(unknown) - seen
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


def rules_about(policies: Sequence[Policy], attributes: Iterable[str]) -> tuple[str, ...]:
    """The ids of every rule that names one of the attributes as a trigger."""
    seen = set(attributes)
    return tuple(f"{p.id}.{r.id}" for p in policies for r in p.rules if _triggers(r, seen))


def regulated(policies: Sequence[Policy]) -> frozenset[str]:
    """Every attribute that triggers some rule of the policies."""
    return frozenset(a for p in policies for r in p.rules for a in r.unsafe_when)
