"""What is wrong with policies as rules: what can never apply, what contradicts, and what says other than it means."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations, islice, product

from policies.conditions import Condition, counted, negation
from policies.engine import Derivation, Policy, PolicySet, Rule
from policies.evidence import Evidence, Thing
from policies.vocabulary import Vocabulary
from policies.words import one_of

_MOST_CASES = 2000  # of one condition; what has more is not searched to the end
_HERE = Thing((0.0, 0.0, 1.0, 1.0))  # all in one place, so that everything stands beside everything


@dataclass(frozen=True)
class Case:
    """One way for a condition to hold: how many of each attribute at least, and of which there must be fewer."""

    present: Mapping[str, int]
    limits: tuple[tuple[tuple[str, ...], int], ...] = ()  # of these kinds together, fewer than so many

    def joined(self, other: "Case") -> "Case":
        names = {**self.present, **other.present}
        present = {n: max(self.present.get(n, 0), other.present.get(n, 0)) for n in names}
        return Case(present, self.limits + other.limits)

    def is_possible(self, vocabulary: Vocabulary) -> bool:
        """Whether what has to be there leaves every limit; a handgun that is there is a weapon that is."""
        return all(self._least(names, vocabulary) < limit for names, limit in self.limits)

    def _least(self, names: Sequence[str], vocabulary: Vocabulary) -> int:
        """How many things of these kinds have to be there. A general name beside one of its kinds adds none."""
        inside = {name for name in self.present if not vocabulary.general(name).isdisjoint(names)}
        own = (name for name in inside if (vocabulary.kinds(name) - {name}).isdisjoint(inside))
        return sum(self.present[name] for name in own)

    def evidence(self, vocabulary: Vocabulary) -> Evidence:
        return Evidence(vocabulary, {name: (_HERE,) * count for name, count in self.present.items()})

    def sentence(self, vocabulary: Vocabulary) -> str:
        named = [counted(vocabulary[name], count) for name, count in self.present.items()]
        return one_of(named, "and") or "nothing that the rules name"


def cases(condition: Condition, wanted: bool = True) -> Iterator[Case]:
    """The ways for a condition to hold, or with `wanted` False not to: its disjunctive normal form."""
    if condition.kind == "not":
        yield from cases(condition.parts[0], not wanted)
    elif condition.kind in ("attribute", "at_least"):
        if wanted:
            yield from (Case({name: condition.least}) for name in condition.named)
        else:
            yield Case({}, ((condition.named, condition.least),))
    elif (condition.kind == "all") == wanted:
        ways = [list(islice(cases(part, wanted), _MOST_CASES)) for part in condition.parts]
        yield from (reduce(Case.joined, chosen) for chosen in product(*ways))
    else:
        for part in condition.parts:
            yield from cases(part, wanted)


def rule_cases(rule: Rule, vocabulary: Vocabulary) -> list[Case]:
    """The ways for a rule to apply; none for one that never does, or that is text alone."""
    if rule.condition is None:
        return []
    return [case for case in islice(cases(_applying(rule)), _MOST_CASES) if case.is_possible(vocabulary)]


def _is_impossible(condition: Condition, vocabulary: Vocabulary) -> bool:
    """Whether it surely never holds; what has too many cases to be searched to the end may hold."""
    tried = list(islice(cases(condition), _MOST_CASES))
    return len(tried) < _MOST_CASES and not any(case.is_possible(vocabulary) for case in tried)


def _applying(rule: Rule, *, excused_beside: bool = False) -> Condition:
    """When a rule applies, overriding aside; with `excused_beside` only where nothing stands beside to excuse it."""
    parts = [rule.condition] if rule.condition else []
    parts += [negation(rule.excused)] if rule.excused else []
    beside = rule.unless.near if rule.unless and excused_beside else ()
    parts += [negation(Condition("attribute", name)) for name in beside]
    return Condition("all", parts=tuple(parts))


def _counting(rule: Rule, policy: Policy, *, excused_beside: bool = False) -> Condition:
    """When a rule applies and none that counts overrides it. One that overrides is taken at its narrowest."""
    over = [other for other in policy.rules if rule.id in other.overrides and other.condition is not None]
    stops = [negation(_counting(other, policy, excused_beside=not excused_beside)) for other in over]
    return Condition("all", parts=(_applying(rule, excused_beside=excused_beside), *stops))


def logical_faults(policy: Policy, vocabulary: Vocabulary) -> Iterator[str]:
    """A sentence for each rule that can never apply or count, and for rules that repeat or contradict each other."""
    ruled = [rule for rule in policy.rules if rule.condition is not None]
    for rule in ruled:
        over = [other.id for other in policy.rules if rule.id in other.overrides]
        if _is_impossible(_applying(rule), vocabulary):
            yield (
                f"{rule.id} can never apply: whatever meets its condition meets its exception too, or contradicts "
                "itself."
            )
        elif over and _is_impossible(_counting(rule, policy), vocabulary):
            yield f"{rule.id} never counts: wherever it applies, {one_of(over)} overrides it."
    for one, other in combinations(ruled, 2):
        if (one.unsafe_when, one.safe_when, one.unless) == (other.unsafe_when, other.safe_when, other.unless):
            yield f"{one.id} and {other.id} have the same condition; keep one of them."
    for safe, unsafe in product(ruled, ruled):
        if safe.safe_when and unsafe.unsafe_when and not {*safe.overrides, *unsafe.overrides} & {safe.id, unsafe.id}:
            apart = Condition("all", parts=(_applying(safe), negation(_applying(unsafe, excused_beside=True))))
            if _is_impossible(apart, vocabulary):
                shown = rule_cases(safe, vocabulary)[0].sentence(vocabulary)
                yield (
                    f"wherever {safe.id} says safe, as of {shown}, {unsafe.id} says unsafe; say in one of them that it "
                    "overrides the other."
                )


def wording_faults(policy: Policy, vocabulary: Vocabulary) -> Iterator[str]:
    """Where a rule's text speaks of other things than its condition; it may give kinds of a thing as examples."""
    for rule in policy.rules:
        if rule.condition is not None:
            yield from _wording(rule, vocabulary)


def _wording(rule: Rule, vocabulary: Vocabulary) -> Iterator[str]:
    in_text, in_condition = vocabulary.spoken_of(rule.text), frozenset(rule.named)
    allowed = frozenset().union(*(vocabulary.kinds(name) for name in in_condition))
    beyond, silent = sorted(in_text - allowed), sorted(in_condition - in_text)
    if beyond:
        yield f"the text of {rule.id} names {one_of(beyond, 'and')}, its condition does not."
    if silent:
        yield f"the condition of {rule.id} names {one_of(silent, 'and')}, its text does not."


def rule_sentence(rule: Rule, vocabulary: Vocabulary) -> str:
    """What a rule's data mean, in one plain sentence."""
    if rule.condition is None:
        return "May apply to any image: it is text alone, so the rules leave every image undetermined."
    words = [f"{'Safe' if rule.safe_when else 'Unsafe'} where the image shows {rule.condition.sentence(vocabulary)}"]
    if rule.unless is not None:
        words.append(f"unless it shows {rule.unless.sentence(vocabulary)}")
    if rule.overrides:
        words.append(f"whatever {one_of(rule.overrides, 'and')} {'says' if len(rule.overrides) == 1 else 'say'}")
    severity = f" Severity: {rule.severity}." if rule.severity else ""
    return f"{', '.join(words)}.{severity}"


def differences(policies: PolicySet, between: Sequence[Policy]) -> list[tuple[str, tuple[Derivation, ...]]]:
    """What the image shows, and what each policy derives from it: every combination on which two of `between` differ.

    Tried are the smallest combinations that meet a rule, each alone and with each single exception.
    """
    vocabulary = policies.vocabulary
    tried: dict[str, tuple[Derivation, ...]] = {}
    for policy in between:
        for rule in policy.rules:
            for case, more in product(rule_cases(rule, vocabulary), [None, *rule.excuses]):
                shown = case if more is None else case.joined(Case({more: 1}))
                words = shown.sentence(vocabulary)
                if words not in tried:
                    seen = shown.evidence(vocabulary)
                    tried[words] = tuple(policies.derive(other, seen) for other in between)
    return [(words, found) for words, found in tried.items() if len({d.verdict for d in found}) > 1]
