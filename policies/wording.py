"""Other wordings of a policy: the same rules in other sentences, so that a guard learns rules and not phrases."""

from pydantic import BaseModel, ConfigDict, Field

from policies.engine import Policy
from policies.vocabulary import Vocabulary


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


class Wordings(BaseModel):
    """A file of them, for one policy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str
    wordings: tuple[Wording, ...] = Field(min_length=1)

    def faults(self, policy: Policy, vocabulary: Vocabulary) -> list[str]:
        """Where the wordings say something else than the policy, which would train on wrong labels: another policy's
        id, a rule too few or too many, a sentence that names other attributes than the policy's own sentence does."""
        found = []
        if self.policy != policy.id:
            found.append(f"it words policy {self.policy}, but its name says {policy.id}.")
        for wording in self.wordings:
            if tuple(wording.rules) != tuple(r.id for r in policy.rules):
                found.append(f"each wording must have the rules {[r.id for r in policy.rules]}, in this order.")
                continue
            for rule in policy.rules:
                expected, named = (vocabulary.spoken_of(text) for text in (rule.text, wording.rules[rule.id]))
                if named != expected:
                    found.append(f"{rule.id} names {sorted(named)}, its policy names {sorted(expected)}.")
        return found
