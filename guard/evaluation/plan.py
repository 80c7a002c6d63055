"""Which questions an evaluation needs: every row under every condition, each question once."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from guard.evaluation.adapters.asking import Call, calls, calls_without_policy
from guard.evaluation.adapters.declaration import Adapter
from guard.evaluation.adapters.loading import GUARDSET, load_adapter
from guard.evaluation.pictures import blank
from guard.evaluation.tally import EvalRow
from reporting.intervals import RESAMPLES
from storage.errors import FatalError
from storage.records.guard import GuardQuestion
from storage.records.ids import content_id, sha256_hex

IMAGE_BLIND = ("blank_image", "swapped_image")


@dataclass(frozen=True)
class EvaluateOptions:
    """How a guard is asked. `adapter` is its own form. `paraphrases` maps a policy's text to other wordings of it;
    `blind` also asks without a policy, with another row's policy, about a blank image and about another family's;
    `reruns` repeats every question, to tell randomness from reading. `name_rules` asks for the broken rules, too.
    `threads` batches are in the making at once, which keeps a server's slots busy; a model in this process needs no
    more than 1.
    """

    max_new_tokens: int = 512
    temperature: float = 0.0
    batch_size: int = 64
    threads: int = 1
    reruns: int = 1
    blind: bool = True
    name_rules: bool = False
    paraphrases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    resamples: int = RESAMPLES
    seed: int = 0
    adapter: Adapter = field(default_factory=lambda: load_adapter(GUARDSET))


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of one row under one condition: the policy, by name and text, and the questions, one per call."""

    policy_name: str
    policy: str
    questions: tuple[str, ...]


@dataclass(frozen=True)
class Questionnaire:
    """Every question once, and by condition what each row is asked (None where it is not).

    Conditions: `policy/0` and so on for the reruns, `no_policy`, `swapped_policy`, `blank_image`, `swapped_image`,
    `paraphrase/0` and so on.
    """

    questions: tuple[GuardQuestion, ...]
    conditions: Mapping[str, tuple[Asked | None, ...]]


class _Questions:
    """Collects questions; what two conditions share is asked once."""

    def __init__(self) -> None:
        self.found: dict[str, GuardQuestion] = {}

    def ask(self, blob: str, name: str, policy: str, of: Sequence[Call], run: int = 0) -> Asked:
        ids = []
        for call in of:
            key = content_id("guard-question", blob, call.prompt, call.system, call.arguments, run)
            self.found.setdefault(key, GuardQuestion(key, blob, call.prompt, run, call.system, call.arguments))
            ids.append(key)
        return Asked(name, policy, tuple(ids))


def plan(rows: Sequence[EvalRow], options: EvaluateOptions) -> Questionnaire:
    """Which questions the conditions need. What two conditions share is asked once: a row's swapped policy is often
    another row's own, and so is its swapped image. Raises FatalError without any row."""
    if not rows:
        raise FatalError("The benchmark has no row.")
    asked = _Questions()
    texts: dict[str, tuple[Call, ...]] = {}

    def of(policy: str) -> tuple[Call, ...]:
        if policy not in texts:
            texts[policy] = calls(options.adapter, policy, rules=options.name_rules)
        return texts[policy]

    def own(row: EvalRow, run: int = 0) -> Asked:
        return asked.ask(row.blob, row.policy_name, row.policy, of(row.policy), run)

    conditions: dict[str, tuple[Asked | None, ...]] = {"policy/0": tuple(own(row) for row in rows)}
    if options.blind:
        conditions |= _blind(rows, asked, of, calls_without_policy(options.adapter))
    for number in range(max((len(some) for some in options.paraphrases.values()), default=0)):
        reworded = [(row, _nth(options.paraphrases.get(row.policy, ()), number)) for row in rows]
        conditions[f"paraphrase/{number}"] = tuple(
            asked.ask(row.blob, row.policy_name, text, of(text)) if text else None for row, text in reworded
        )
    for run in range(1, options.reruns):
        conditions[f"policy/{run}"] = tuple(own(row, run) for row in rows)
    return Questionnaire(tuple(asked.found.values()), conditions)


def _blind(
    rows: Sequence[EvalRow], asked: _Questions, of: Callable[[str], tuple[Call, ...]], without: Sequence[Call]
) -> dict[str, tuple[Asked | None, ...]]:
    """The conditions that take policy or image away."""
    texts = {row.policy_name: row.policy for row in rows}
    names = sorted(texts)
    after = {name: names[(i + 1) % len(names)] for i, name in enumerate(names)}
    found: dict[str, tuple[Asked | None, ...]] = {}
    if without:
        found["no_policy"] = tuple(asked.ask(row.blob, row.policy_name, row.policy, without) for row in rows)
    if len(names) > 1:
        swapped = [(row, after[row.policy_name]) for row in rows]
        found["swapped_policy"] = tuple(
            asked.ask(row.blob, name, texts[name], of(texts[name])) for row, name in swapped
        )
    nothing = sha256_hex(blank())
    found["blank_image"] = tuple(asked.ask(nothing, r.policy_name, r.policy, of(r.policy)) for r in rows)
    others = swapped_images(rows)
    if any(others):
        found["swapped_image"] = tuple(
            asked.ask(other, r.policy_name, r.policy, of(r.policy)) if other else None
            for r, other in zip(rows, others, strict=True)
        )
    return found


def swapped_images(rows: Sequence[EvalRow]) -> list[str]:
    """Per row the image of another family under the same policy, "" where there is none. Each is another row's own, so
    it costs no question."""
    order = sorted(range(len(rows)), key=lambda n: (rows[n].policy_name, rows[n].family_id, rows[n].row_id))
    found = [""] * len(rows)
    for name in {row.policy_name for row in rows}:
        some = [n for n in order if rows[n].policy_name == name]
        step = max(Counter(rows[n].family_id for n in some).values())
        for place, number in enumerate(some):
            other = rows[some[(place + step) % len(some)]]
            found[number] = other.blob if other.family_id != rows[number].family_id else ""
    return found


def _nth(texts: Sequence[str], number: int) -> str:
    return texts[number] if number < len(texts) else ""
