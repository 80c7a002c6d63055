"""Scripted people err as told: alone, together, by policy, with time and towards a draft."""

from collections import Counter
from dataclasses import replace
from statistics import median

import pytest

from annotation.verdicts import PolicyVerdict
from micro.people import FLAWLESS, Look, People, duration_s, judge, see
from micro.world import VOCABULARY, WORLD
from policies.vocabulary import Vocabulary

N, FEW = 3000, 500
SMALL = Vocabulary(tuple(VOCABULARY[name] for name in ("blade", "heart")))


def missed(people, who, *, names=("blade",), images=N, position=0, page="verdict"):
    """The images of which a person does not say that the blade is there."""
    looks = [Look(who, str(number), page, position) for number in range(images)]
    return {look.image_id for look in looks if "blade" not in see(people, SMALL, names, look).things}


def test_without_errors_everybody_sees_what_is_there_and_judges_by_the_rules():
    for names in ((), ("blade",), ("blade", "museum_label"), ("dice", "syringe")):
        seen = see(FLAWLESS, VOCABULARY, names, Look("ann", "x", "verdict", 99))
        assert (set(seen.things), seen.unknown) == (set(names), frozenset())
        said = judge(FLAWLESS, WORLD, seen, Look("ann", "x", "verdict"))
        assert [a.verdict for a in said] == [WORLD.derive(p, names).verdict for p in WORLD]


def test_equal_arguments_give_equal_answers_and_another_seed_gives_others():
    people = People(miss=0.3)
    assert missed(people, "ann") == missed(people, "ann")
    assert missed(people, "ann") != missed(replace(people, seed=1), "ann")


def test_the_rates_are_those_asked_for():
    people = replace(FLAWLESS, miss=0.1, invent=0.05, shared=0)
    # 3,000 draws: three standard deviations are 3 * sqrt(0.1 * 0.9 / 3000) = 0.016
    assert len(missed(people, "ann")) / N == pytest.approx(0.1, abs=0.017)
    seen = [see(people, SMALL, ("blade",), Look("ann", str(n), "verdict")) for n in range(N)]
    invented = sum("heart" in one.things or "heart" in one.unknown for one in seen)
    assert invented / N == pytest.approx(0.05, abs=0.012)  # 3 * sqrt(0.05 * 0.95 / 3000)


def test_what_is_hard_is_missed_by_all():
    """Alone with hard things, a person misses 0.2 * 0.8 of all, and of these another one misses 0.8, not 0.16."""
    people = replace(FLAWLESS, hard=0.2, hard_miss=0.8, shared=0)
    ann, ben = missed(people, "ann"), missed(people, "ben")
    assert len(ann) / N == pytest.approx(0.16, abs=0.02)
    assert len(ann & ben) / len(ann) == pytest.approx(0.8, abs=0.06)


def test_errors_are_shared_as_far_as_told():
    """Both use the common draw with 0.6 * 0.6 and then err together: P(both) = 0.36 * 0.1 + 0.64 * 0.01 = 0.0424."""
    people = replace(FLAWLESS, miss=0.1, shared=0.6)
    ann, ben = missed(people, "ann"), missed(people, "ben")
    assert len(ann & ben) / N == pytest.approx(0.0424, abs=0.012)
    alone = replace(people, shared=0)
    assert len(missed(alone, "ann") & missed(alone, "ben")) / N == pytest.approx(0.01, abs=0.006)


def test_a_second_look_on_another_page_errs_anew():
    people = replace(FLAWLESS, miss=0.1, shared=0)
    both = missed(people, "ann") & missed(people, "ann", page="attributes")
    assert len(both) / N == pytest.approx(0.01, abs=0.006)


def test_a_tired_person_errs_more_until_the_next_sitting():
    people = replace(FLAWLESS, miss=0.1, shared=0, fatigue=1.0)
    rates = [len(missed(people, "ann", position=at)) / N for at in (0, 99, 100)]
    assert rates[1] == pytest.approx(0.199, abs=0.022)
    assert rates[2] == rates[0] == pytest.approx(0.1, abs=0.017)


def test_each_policy_has_its_own_rate():
    people = replace(FLAWLESS, by_policy={"L3": 0.2})
    wrong: Counter[str] = Counter()
    for number in range(FEW):
        look = Look("ann", str(number), "verdict")
        seen = see(people, VOCABULARY, ("blade",), look)
        for policy, said in zip(WORLD, judge(people, WORLD, seen, look), strict=True):
            wrong[policy.id] += said.verdict != WORLD.derive(policy, ("blade",)).verdict
    assert {name for name, n in wrong.items() if n} == {"L3"}
    assert wrong["L3"] / FEW == pytest.approx(0.2, abs=0.055)


def test_a_wrong_draft_stands_as_often_as_told_and_saves_time():
    people = replace(FLAWLESS, anchoring=0.4, saving=0.3)
    draft = {"L2": PolicyVerdict("L2", "safe")}  # a knife is unsafe there
    looks = [Look("ann", str(number), "verdict") for number in range(FEW)]
    seen = see(people, VOCABULARY, ("blade",), looks[0])
    said = [judge(people, WORLD, seen, look, draft)[1].verdict for look in looks]
    assert said.count("safe") / FEW == pytest.approx(0.4, abs=0.067)
    blank, drafted = (median(duration_s(people, look, drafted=d) for look in looks) for d in (False, True))
    assert drafted / blank == pytest.approx(0.7, abs=0.01)
