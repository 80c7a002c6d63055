"""Other wordings of a policy: the same rules in other sentences, so that a guard learns rules and not phrases.

A file `<policy id>.yaml` in the folder `paraphrases/` holds an opening and a sentence per rule for each wording.
"""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from policies.attributes import mentioned
from policies.engine import Policy
from storage.errors import FatalError
from storage.validation import faults_of


class Wording(BaseModel):
    """One other wording: `opening` for setting and preamble, a sentence per rule id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    opening: str = Field(min_length=1)
    rules: dict[str, str]

    @property
    def text(self) -> str:
        """The full text that a guard reads, in the form of `Policy.text`."""
        rules = "\n".join(f"{rule_id}. {sentence}" for rule_id, sentence in self.rules.items())
        return f"{self.opening}\n{rules or 'There are no rules.'}"


class _File(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str
    wordings: tuple[Wording, ...] = Field(min_length=1)


def paraphrases(policies: Sequence[Policy], folder: str | Path | None = None) -> dict[str, tuple[str, ...]]:
    """Policy id -> the full texts of its other wordings; empty for a policy without a file.

    `folder` defaults to the wordings that are shipped. Raises FatalError naming the file when it is not valid, when a
    wording lacks a rule of the policy or has one too many, or when a rule's sentence names other attributes than the
    policy's own sentence does.
    """
    root = files("policies").joinpath("paraphrases") if folder is None else Path(folder)
    found: dict[str, tuple[str, ...]] = {}
    for policy in policies:
        file = root.joinpath(f"{policy.id}.yaml")
        texts = _wordings(file.name, file.read_text(encoding="utf-8"), policy) if file.is_file() else ()
        found[policy.id] = tuple(w.text for w in texts)
    return found


def _wordings(name: str, text: str, policy: Policy) -> tuple[Wording, ...]:
    try:
        parsed = _File.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise FatalError(f"paraphrases/{name} cannot be read: {error}") from error
    except ValidationError as error:
        raise FatalError(f"paraphrases/{name} cannot be read: {faults_of(error, _File)[0]}") from error
    if parsed.policy != policy.id:
        raise FatalError(f"paraphrases/{name} words policy {parsed.policy}, but its name says {policy.id}.")
    for wording in parsed.wordings:
        _check(name, wording, policy)
    return parsed.wordings


def _check(name: str, wording: Wording, policy: Policy) -> None:
    """A wording that says something else would train on wrong labels."""
    if tuple(wording.rules) != tuple(r.id for r in policy.rules):
        raise FatalError(f"paraphrases/{name} must word the rules {[r.id for r in policy.rules]}, in this order.")
    for rule in policy.rules:
        expected, named = mentioned(rule.text), mentioned(wording.rules[rule.id])
        if named != expected:
            raise FatalError(
                f"paraphrases/{name}: {rule.id} names {sorted(named)}, its policy names {sorted(expected)}."
            )
