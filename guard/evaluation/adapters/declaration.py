"""How a guard is asked in its own form, and how its answer is read: one declaration, which a YAML file holds."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

Form = Literal["guardset", "pattern", "json", "first_token"]
Named = Literal["nothing", "ids", "titles", "own"]
PLACEHOLDERS = ("policy", "rules", "rule", "rule_id")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _pattern(text: str) -> str:
    try:
        groups = re.compile(text).groupindex
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from error
    if "verdict" not in groups:
        raise ValueError("has no group (?P<verdict>…)")
    return text


Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Pattern = Annotated[str, AfterValidator(_pattern)]


class Ask(BaseModel):
    """The turn that goes with the image. Texts may hold `{policy}`, `{rules}` (a line each, as `rule_line` says), and
    in calls per rule `{rule}` and `{rule_id}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str = Field(default="", description="the user's turn; empty for guards whose chat template writes it")
    system: str = Field(default="", description="the system's turn; empty: none")
    without_policy: str | None = Field(
        default=None, description="the user's turn where no policy is given; none: the guard is not asked without one"
    )
    per: Literal["policy", "rule"] = Field(default="policy", description="one call per policy, or one per rule")
    rule_line: str = Field(default="{id}. {text}", description="a line of {rules}; {letter} counts A, B, C")
    arguments: dict[str, Any] = Field(default={}, description="chat-template arguments; their texts are filled in, too")
    first_tokens: int = Field(default=0, ge=0, le=20, description="log-probabilities wanted of the first token")

    @model_validator(mode="after")
    def _known_placeholders(self) -> "Ask":
        allowed = PLACEHOLDERS if self.per == "rule" else PLACEHOLDERS[:2]
        texts = (self.user, self.system, *(v for v in self.arguments.values() if isinstance(v, str)))
        unknown = {name for text in texts for name in _PLACEHOLDER.findall(text)} - set(allowed)
        if unknown:
            raise ValueError(f"has {{{min(unknown)}}}, which nothing fills in; there are {', '.join(allowed)}")
        if self.per == "rule" and not any("{rule}" in text for text in texts):
            raise ValueError("is asked per rule and has no {rule} in its texts")
        return self

    @property
    def reads_policy(self) -> bool:
        """Whether what is sent depends on the policy."""
        texts = (self.user, self.system, *(v for v in self.arguments.values() if isinstance(v, str)))
        return any(_PLACEHOLDER.search(text) for text in texts)


class Read(BaseModel):
    """How an answer becomes a verdict and rules. `form` says what it is:

    - `guardset`: the strict form of guardset's own question.
    - `pattern`: a regular expression with a group `verdict` and perhaps `rules`, which must match the whole answer.
      Where it does not, `repair` is searched for in it, if given; such answers are counted as repaired.
    - `json`: an object with the verdict under `verdict` and perhaps rules under `rules`, paths of keys set apart by
      dots. A cut or fenced object is repaired where the verdict is whole.
    - `first_token`: the probability of the first token, `unsafe` words against `safe` ones.

    Words are compared without case, and only as whole words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Form
    thinking: Literal["none", "optional", "required"] = Field(
        default="none", description="whether <think>…</think> stands before the answer; unclosed, it is invalid"
    )
    pattern: Pattern | None = None
    repair: Pattern | None = None
    verdict: str = Field(default="", description="json: the path of the verdict")
    rules: str = Field(default="", description="json: the path of the rules")
    safe: Words = ("safe",)
    unsafe: Words = ("unsafe",)
    unsafe_from: float = Field(default=0.5, ge=0, le=1, description="first_token: unsafe from this probability on")
    names: Named = Field(
        default="nothing",
        description="what the rules are: ids or titles of the policy as it was asked, or the guard's own categories",
    )
    no_rule: Words = Field(default=(), description="what stands for no rule, such as None")
    rule_pattern: str = Field(default=r"[^,;\n]+", description="finds each rule in what was named, by its first group")

    @model_validator(mode="after")
    def _complete(self) -> "Read":
        if self.form == "pattern" and self.pattern is None:
            raise ValueError("is a pattern and has none; give `pattern`")
        if self.form == "json" and not self.verdict:
            raise ValueError("is json and does not say where the verdict stands; give `verdict`")
        if {word.lower() for word in self.safe} & {word.lower() for word in self.unsafe}:
            raise ValueError("has a word that means both safe and unsafe")
        try:
            re.compile(self.rule_pattern)
        except re.error as error:
            raise ValueError(f"has a rule_pattern that is no regular expression: {error}") from error
        return self


class Adapter(BaseModel):
    """A guard's own form. `mapping` says, by policy, which rules a category of the guard's own taxonomy means: under
    such a policy only mapped categories count, and elsewhere the verdict alone is scored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=80)
    source: str = Field(min_length=1, description="where its form is documented")
    tested: str = Field(default="from documentation, not run", description="how far it was tried")
    ask: Ask = Ask()
    read: Read
    mapping: dict[str, dict[str, Words]] = {}

    @property
    def stands_on(self) -> str:
        """What a table says of the verdict's ground."""
        if self.read.form == "guardset" or (self.ask.reads_policy and self.read.names != "own"):
            return "reads the policy"
        ground = "reads the policy" if self.ask.reads_policy else "own taxonomy"
        rules = "mapped to rules under " + ", ".join(sorted(self.mapping)) if self.mapping else "verdict alone"
        return f"{ground}; own categories, {rules}" if self.ask.reads_policy else f"{ground}, {rules}"
