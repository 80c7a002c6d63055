"""The rule language against a table that was read by hand, and against an evaluator that tries every world."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.engine import Policy, PolicySet
from policies.evidence import Evidence, Thing
from policies.vocabulary import Attribute, Vocabulary


def policy(policy_id: str, *rules: dict, closed: bool = True) -> Policy:
    numbered = [{"id": f"R{number}", "text": "T."} | rule for number, rule in enumerate(rules, start=1)]
    return Policy.model_validate(
        {"id": policy_id, "name": "N", "setting": "S.", "preamble": "P.", "closed": closed, "rules": numbered}
    )


PARENTS = {"handgun": "firearm", "rifle": "firearm", "firearm": "weapon", "knife": "weapon", "wine": "alcohol"}
NAMES = (
    "weapon firearm handgun rifle knife person blood wound alcohol wine beer motorcycle helmet museum_label red_cross"
).split()
WORDS = Vocabulary(
    tuple(
        Attribute.model_validate({"id": n, "sensitive": True, "is_a": PARENTS.get(n, "alcohol" if n == "beer" else ())})
        for n in NAMES
    )
)
SET = PolicySet(
    WORDS,
    (
        policy("A"),
        policy(
            "B",
            {"unsafe_when": ["weapon"], "unless": {"near": ["museum_label"]}},
            {"unsafe_when": {"all": ["person", {"any": ["blood", "wound"]}]}, "unless": ["red_cross"]},
        ),
        policy(
            "C",
            {"unsafe_when": ["weapon"]},
            {"safe_when": {"all": ["firearm", "museum_label"]}, "overrides": "R1"},
            {"unsafe_when": {"at_least": {2: "firearm"}}, "overrides": ["R2"]},
        ),
        policy(
            "D",
            {"unsafe_when": ["alcohol"], "severity": "high"},
            {"unsafe_when": {"all": ["motorcycle", {"not": "helmet"}]}},
            closed=False,
        ),
        policy("E", {}, {"unsafe_when": ["knife"]}),
    ),
)

# What is known of an image, and what follows under A to E: S safe, U unsafe, ? undetermined. `a~b` stand beside each
# other, all else stands apart; `@` gives a score, `=` a name alone, `?` what may be there, `none` that nobody looked.
TABLE = """
                                        S S S ? ?
    handgun                             S U U ? ?
    rifle                               S U U ? ?
    knife                               S U U ? U
    weapon                              S U U ? ?
    firearm                             S U U ? ?
    museum_label                        S S S ? ?
    handgun~museum_label                S S S ? ?
    handgun museum_label                S U S ? ?
    knife~museum_label                  S S U ? U
    knife museum_label                  S U U ? U
    handgun handgun                     S U U ? ?
    handgun~handgun~museum_label        S S U ? ?
    handgun~rifle~museum_label          S S U ? ?
    handgun~knife~museum_label          S S S ? U
    handgun~museum_label rifle          S U U ? ?
    weapon~museum_label                 S S ? ? ?
    weapon~weapon~museum_label          S S ? ? ?
    person                              S S S ? ?
    blood                               S S S ? ?
    wound                               S S S ? ?
    person blood                        S U S ? ?
    person wound                        S U S ? ?
    person blood red_cross              S S S ? ?
    person blood wound                  S U S ? ?
    blood wound                         S S S ? ?
    person blood handgun                S U U ? ?
    person blood red_cross handgun      S U U ? ?
    person blood red_cross handgun~museum_label  S S S ? ?
    person person person                S S S ? ?
    wine                                S S S U ?
    beer                                S S S U ?
    alcohol                             S S S U ?
    wine knife                          S U U U U
    wine handgun~museum_label           S S S U ?
    motorcycle                          S S S U ?
    motorcycle helmet                   S S S ? ?
    helmet                              S S S ? ?
    motorcycle helmet wine              S S S U ?
    motorcycle knife                    S U U U U
    knife handgun                       S U U ? U
    handgun@0.3                         S ? ? ? ?
    knife@0.3                           S ? ? ? ?
    wine@0.3                            S S S ? ?
    wine@0.7                            S S S U ?
    handgun~museum_label@0.3            S ? ? ? ?
    handgun museum_label@0.3            S U ? ? ?
    handgun~handgun@0.3~museum_label    S S ? ? ?
    rifle@0.3~handgun~museum_label      S S ? ? ?
    motorcycle@0.3                      S S S ? ?
    motorcycle helmet@0.3               S S S ? ?
    person blood@0.3                    S ? S ? ?
    person@0.3 blood                    S ? S ? ?
    person blood red_cross@0.3          S ? S ? ?
    ?knife                              S ? ? ? ?
    ?wine                               S S S ? ?
    handgun ?museum_label               S ? ? ? ?
    ?firearm                            S ? ? ? ?
    ?weapon                             S ? ? ? ?
    dragon                              ? ? ? ? ?
    dragon knife                        ? U U ? U
    none                                S ? ? ? ?
    =handgun =museum_label              S ? ? ? ?
    =handgun                            S U U ? ?
    =knife =museum_label                S ? U ? U
    =person =blood                      S U S ? ?
"""
ROWS = [(" ".join(line.split()[:-5]), line.split()[-5:]) for line in TABLE.strip("\n").splitlines()]
VERDICTS = {"S": "safe", "U": "unsafe", "?": "undetermined"}


def evidence(text: str) -> Evidence:
    if text == "none":
        return Evidence.named(WORDS, None)
    things: dict[str, tuple[Thing, ...]] = {}
    unknown = set()
    for place, group in enumerate(text.split()):
        if group.startswith("?"):
            unknown.add(group[1:])
            continue
        for beside, word in enumerate(group.split("~")):
            name, _, score = word.lstrip("=").partition("@")
            left = 1000.0 * place + 5 * beside  # ten wide
            thing = Thing((left, 0, left + 10, 10), certain=float(score or 1) >= 0.5)
            things[name] = (*things.get(name, ()), Thing(several=True) if word.startswith("=") else thing)
    return Evidence(WORDS, things, frozenset(unknown))


def test_the_table_has_sixty_rows_and_none_twice() -> None:
    assert len({text for text, _ in ROWS}) == len(ROWS) == 66


@pytest.mark.parametrize(("text", "expected"), ROWS)
def test_a_verdict_is_as_it_was_read_by_hand(text: str, expected: list[str]) -> None:
    found = [SET.derive(each, evidence(text)).verdict for each in SET]
    assert found == [VERDICTS[letter] for letter in expected]


def test_an_exception_may_be_beside_it_or_anywhere() -> None:
    mixed = policy("X", {"unsafe_when": ["knife"], "unless": ["red_cross", {"near": ["museum_label"]}]})
    expected = {
        "knife": "unsafe",
        "knife~museum_label": "safe",
        "knife museum_label": "unsafe",
        "knife red_cross": "safe",
    }
    assert {text: SET.derive(mixed, evidence(text)).verdict for text in expected} == expected


def test_a_score_counts_from_the_attributes_own_threshold() -> None:
    sure = WORDS["wine"].model_copy(update={"certain_from": 0.2})
    words = Vocabulary(tuple(sure if a.id == "wine" else a for a in WORDS.attributes))
    seen = Evidence.located(words, [("wine", (0, 0, 1, 1), 0.3)])
    assert PolicySet(words, tuple(SET)).derive(SET[3], seen).verdict == "unsafe"
    assert SET.derive(SET[3], Evidence.located(WORDS, [("wine", (0, 0, 1, 1), 0.3)])).verdict == "undetermined"


def test_severity_is_that_of_the_gravest_rule_that_counts() -> None:
    assert SET.derive(SET[3], ["wine"]).severity == "high"
    assert SET.derive(SET[3], ["motorcycle"]).severity is None


def test_a_changed_rule_changes_the_hash_and_a_new_field_that_says_nothing_does_not() -> None:
    plain = policy("X", {"unsafe_when": ["knife"]})
    assert plain.content_hash == policy("X", {"unsafe_when": ["knife"], "overrides": [], "unless": []}).content_hash
    for change in ({"severity": "low"}, {"unless": ["wine"]}, {"unsafe_when": {"all": ["knife"]}}):
        assert policy("X", {"unsafe_when": ["knife"]} | change).content_hash != plain.content_hash
    assert policy("X", {"unsafe_when": ["knife"]}, closed=False).content_hash != plain.content_hash


# An evaluator of its own: plain Boolean logic in one world, and all worlds that fit what is known.
LETTERS = "abcdef"
FLAT = Vocabulary(tuple(Attribute(id=letter, noun=f"thing {letter}", sensitive=True) for letter in LETTERS))


def is_true(condition, world: dict[str, int]) -> bool:
    if isinstance(condition, str):
        return world[condition] > 0
    if isinstance(condition, list):
        return any(is_true(part, world) for part in condition)
    ((joint, inner),) = condition.items()
    if joint == "not":
        return not is_true(inner, world)
    if joint == "at_least":
        ((least, counted),) = inner.items()
        return sum(world[name] for name in counted) >= least
    return (any if joint == "any" else all)(is_true(part, world) for part in inner)


def is_unsafe(rules: list[dict], world: dict[str, int]) -> bool:
    counting: dict[str, bool] = {}
    for number in reversed(range(len(rules))):  # only later rules override earlier ones
        rule, rule_id = rules[number], f"R{number + 1}"
        over = any(
            rule_id in other.get("overrides", ()) and counting[f"R{n + 1}"]
            for n, other in enumerate(rules)
            if n > number
        )
        holds = is_true(rule.get("unsafe_when") or rule["safe_when"], world)
        counting[rule_id] = holds and not over and not (rule.get("unless") and is_true(rule["unless"], world))
    return any(counting[f"R{n + 1}"] for n, rule in enumerate(rules) if "unsafe_when" in rule)


@st.composite
def conditions(draw, letters: list[str], deep: int = 2):
    """A condition in YAML's form that uses each letter at most once."""
    if len(letters) == 1 or deep == 0:
        return letters[0] if draw(st.booleans()) else {"not": letters[0]}
    if draw(st.integers(0, 5)) == 0:
        return {"at_least": {draw(st.integers(1, 3)): letters}}
    cut = draw(st.integers(1, len(letters) - 1))
    parts = [draw(conditions(letters[:cut], deep - 1)), draw(conditions(letters[cut:], deep - 1))]
    return draw(st.sampled_from([parts, {"any": parts}, {"all": parts}, {"not": {"all": parts}}]))


@st.composite
def rule_lists(draw, once: bool):
    """One to three rules. With `once` no attribute occurs twice, so that three-valued logic is exact."""
    pool, rules = draw(st.permutations(LETTERS)), []
    for number in range(draw(st.integers(1, 3))):
        mine = (
            pool[2 * number : 2 * number + 2]
            if once
            else draw(st.lists(st.sampled_from(LETTERS), min_size=1, max_size=4, unique=True))
        )
        said = draw(st.sampled_from(["unsafe_when", "safe_when"])) if number else "unsafe_when"
        rule = {said: draw(conditions(list(mine)))}
        if not once and draw(st.booleans()):
            others = [letter for letter in LETTERS if letter not in mine]
            rule["unless"] = [draw(st.sampled_from(others))]
        if number and (said == "safe_when" or draw(st.booleans())):
            rule["overrides"] = [f"R{number}"]
        rules.append(rule)
    return rules


def verdicts(rules: list[dict], counts: dict[str, int], unknown: set[str]) -> tuple[str, set[bool]]:
    """The engine's verdict, and what is true in the worlds that fit."""
    things = {name: (Thing(),) * count for name, count in counts.items() if count}
    made = PolicySet(FLAT, (policy("X", *rules),))
    verdict = made.derive(made[0], Evidence(FLAT, things, frozenset(unknown))).verdict
    ranges = [range(counts.get(n, 0), 5) if n in unknown else [counts.get(n, 0)] for n in LETTERS]
    return verdict, {is_unsafe(rules, dict(zip(LETTERS, world, strict=True))) for world in product(*ranges)}


COUNTS = st.dictionaries(st.sampled_from(LETTERS), st.integers(0, 3))
UNKNOWN = st.sets(st.sampled_from(LETTERS), max_size=3)


@settings(max_examples=150)
@given(rule_lists(once=False), COUNTS, UNKNOWN)
def test_a_verdict_holds_in_every_world_that_fits(rules, counts, unknown) -> None:
    verdict, worlds = verdicts(rules, counts, unknown)
    if verdict != "undetermined":
        assert worlds == {verdict == "unsafe"}
    if not unknown:
        assert verdict != "undetermined"


@settings(max_examples=150)
@given(rule_lists(once=True), COUNTS, UNKNOWN)
def test_where_nothing_is_said_twice_a_verdict_is_open_only_where_the_worlds_differ(rules, counts, unknown) -> None:
    verdict, worlds = verdicts(rules, counts, unknown)
    assert (verdict == "undetermined") == (len(worlds) == 2)
