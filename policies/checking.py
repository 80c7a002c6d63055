"""What is wrong with policies as rules: what can never apply, what contradicts, and what says other than it means."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, product

from policies.conditions import Condition
from policies.engine import Derivation, Policy, PolicySet, Rule
from policies.evidence import Evidence, Thing
from policies.vocabulary import Vocabulary
from policies.words import one_of, plural, with_article

_MOST_CASES = 2000  # of one condition; what has more is not searched to the end
_HERE = Thing((0.0, 0.0, 1.0, 1.0))  # all in one place, so that everything stands beside everything


@dataclass(frozen=True)
class Case:
    """One way for a condition to hold: how many of each attribute at least, and what must be absent."""

    present: Mapping[str, int]
    absent: frozenset[str] = frozenset()

    def joined(self, other: "Case") -> "Case":
        names = {**self.present, **other.present}
        present = {n: max(self.present.get(n, 0), other.present.get(n, 0)) for n in names}
        return Case(present, self.absent | other.absent)

    def is_possible(self, vocabulary: Vocabulary) -> bool:
        """Whether nothing has to be there and to be absent; a handgun that is there is a weapon that is."""
        return not any(vocabulary.general(name) & self.absent for name in self.present)

    def evidence(self, vocabulary: Vocabulary) -> Evidence:
        return Evidence(vocabulary, {name: (_HERE,) * count for name, count in self.present.items()})

    def sentence(self, vocabulary: Vocabulary) -> str:
        named = [
            with_article(vocabulary[n].noun) if c == 1 else f"{c} {plural(vocabulary[n].noun)}"
            for n, c in self.present.items()
        ]
        return one_of(named, "and") or "nothing that the rules name"


def cases(condition: Condition, wanted: bool = True) -> Iterator[Case]:
    """The ways for a condition to hold, or with `wanted` False not to: its disjunctive normal form."""
    if condition.kind == "not":
        yield from cases(condition.parts[0], not wanted)
    elif condition.kind == "attribute":
        yield Case({condition.attribute: 1}) if wanted else Case({}, frozenset({condition.attribute}))
    elif condition.kind == "at_least":
        if wanted:
            yield from (Case({part.attribute: condition.least}) for part in condition.parts)
        else:  # fewer than two leave room for one; that none is there is the case that always works
            yield Case({}, frozenset(condition.named))
    elif (condition.kind == "all") == wanted:
        ways = [list(islice(cases(part, wanted), _MOST_CASES)) for part in condition.parts]
        for chosen in islice(product(*ways), _MOST_CASES):
            whole = chosen[0]
            for one in chosen[1:]:
                whole = whole.joined(one)
            yield whole
    else:
        for part in condition.parts:
            yield from cases(part, wanted)


def rule_cases(rule: Rule, vocabulary: Vocabulary) -> list[Case]:
    """The ways for a rule to apply, exceptions absent; none for a rule that is text alone or never applies."""
    if rule.condition is None:
        return []
    applying: Iterable[Case] = cases(rule.condition)
    if rule.excused is not None:
        absent = list(islice(cases(rule.excused, wanted=False), _MOST_CASES))
        applying = (one.joined(other) for one in applying for other in absent)
    return list(islice((case for case in applying if case.is_possible(vocabulary)), _MOST_CASES))


def logical_faults(policy: Policy, vocabulary: Vocabulary) -> Iterator[str]:
    """A sentence for each rule that can never apply or count, and for rules that repeat or contradict each other."""
    ways = {rule.id: rule_cases(rule, vocabulary) for rule in policy.rules}
    yield from _never(policy, ways, vocabulary)
    for one, other in combinations(policy.rules, 2):
        if one.condition is not None and (one.condition, one.unless) == (other.condition, other.unless):
            yield f"{one.id} and {other.id} have the same condition; keep one of them."
    for safe in (rule for rule in policy.rules if rule.safe_when):
        for unsafe in (rule for rule in policy.rules if rule.unsafe_when):
            if safe.id in unsafe.overrides or unsafe.id in safe.overrides:
                continue
            worlds = [case.evidence(vocabulary) for case in ways[safe.id]]
            if worlds and all(unsafe.applies(world) for world in worlds):
                shown = ways[safe.id][0].sentence(vocabulary)
                yield (
                    f"wherever {safe.id} says safe, as of {shown}, {unsafe.id} says unsafe; say in one of them that it "
                    "overrides the other."
                )


def _never(policy: Policy, ways: Mapping[str, list[Case]], vocabulary: Vocabulary) -> Iterator[str]:
    for rule in policy.rules:
        if rule.condition is None:
            continue
        if not ways[rule.id]:
            yield (
                f"{rule.id} can never apply: whatever meets its condition meets its exception too, or contradicts "
                "itself."
            )
            continue
        over = [other for other in policy.rules if rule.id in other.overrides]
        free = [Case({})] + [Case({name: 1}) for other in over for name in other.excuses]
        worlds = (case.joined(more) for case in ways[rule.id] for more in free)
        if over and not any(policy.counting(world.evidence(vocabulary))[rule.id] for world in worlds):
            yield f"{rule.id} never counts: wherever it applies, {one_of([r.id for r in over])} overrides it."


def wording_faults(policy: Policy, vocabulary: Vocabulary) -> Iterator[str]:
    """Where a rule's text speaks of other things than its condition; it may give kinds of a thing as examples."""
    for rule in policy.rules:
        if rule.condition is not None:
            yield from _wording(rule, vocabulary)


def _wording(rule: Rule, vocabulary: Vocabulary) -> Iterator[str]:
    said, meant = vocabulary.spoken_of(rule.text), frozenset(rule.named)
    allowed = frozenset().union(*(vocabulary.kinds(name) for name in meant))
    beyond, silent = sorted(said - allowed), sorted(meant - said)
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
