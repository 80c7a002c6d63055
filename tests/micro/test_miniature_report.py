"""The miniature's measures by hand, and its pages, whichever way the numbers point."""

import json
from dataclasses import replace

import pytest

from micro.miniature.arms import VISION_TIMES
from micro.miniature.claims import CLAIMS, DECISIVE, Check, judge
from micro.miniature.data import FIVE_EACH, HELD_OUT_EACH
from micro.miniature.families import _EDITOR_JPEG, _EDITOR_SIDE_PX, _FORBIDDEN, CONFOUND, INSERTED, TARGET
from micro.miniature.held_out import held_out_policies
from micro.miniature.measures import BASE, COLUMNS, CURVE, OTHERS, STAGE_1, TUNED, measure
from micro.miniature.report import FIRST_LINE, arms_table, claims_table, write_pages
from micro.miniature.results import Result
from micro.miniature.sets import ATTEMPTS, FALSE_SHARE, TRIES, TUNING_ROWS
from tests.guard.evaluated import row

REWARD = Check("reward", "The reward rises in stage 2", 0.31, 0.1, True)


def asked(families: int = 12):
    """Per family an original and its edited twin under three policies with rules; a sham under the target policy."""
    rows = []
    for number in range(families):
        for policy in ("L2", "L3", "L4"):
            rows += [row(f"f{number}", "original", f"Policy {policy}", "unsafe")]
            rows += [row(f"f{number}", "edited", f"Policy {policy}", "safe")]
        rows += [row(f"f{number}", "sham", "Policy L3", "unsafe")]
    target = [one for one in rows if one.policy_name == "Policy L3"]
    return {"five": rows, "target": target, "held_out": [replace(r, policy_name=f"{r.policy_name}h") for r in rows]}


def result(arm: str, questions, *, seed: int = 0, right=lambda row: True, curve=(), ability=()) -> Result:
    """Answers that are right where `right` says so; `curve` maps a step to such a function."""
    wrong = {"safe": "unsafe", "unsafe": "safe"}

    def said(part, right):
        return [row.label if right(row) else wrong[row.label] for row in questions[part]]

    answers = {part: said(part, right) for part in questions}
    return Result(arm, seed, "", 0.0, answers, {s: said("five", of) for s, of in dict(curve).items()}, (), ability)


def never(row):
    return False


def always(row):
    return True


def values(found, arm: str, seed: int = 0):
    return {name: one.value for name, one in found[arm][seed].items()}


def test_measures_of_a_guard_that_is_right_on_all_but_controls():
    questions = asked()
    some = [result("both", questions, right=lambda row: row.role != "sham", ability=[1.0, 0.5, 0.0, 0.5])]
    found = values(measure(some, questions, resamples=20), "both")
    # L3: per family TP 1, FN 1 (the sham), so F1 = 2 / 3; L2 and L4 are 1; macro (1 + 2/3 + 1) / 3 = 8 / 9
    assert found["L3"] == pytest.approx(2 / 3)
    assert found["macro F1"] == found["held-out macro F1"] == pytest.approx(8 / 9)
    assert (found["pairs"], found["controls"], found["invalid"], found["ability"]) == (1.0, 0.0, 0.0, 0.5)
    assert not {"L1", "L5", "insertions", "PSS", CURVE, OTHERS} & set(found)  # nobody asked


def test_insertions_are_rows_of_that_category_whatever_their_role():
    questions = asked()
    for n in range(12):  # per family one that is right and one that is wrong, so 1 / 2; the removals are all right
        for policy in ("L3", "L4"):
            put_in = row(f"f{n}", "edited", f"Policy {policy}", "unsafe", pair_id=f"i{n}", categories=("insertion",))
            questions["five"].append(replace(put_in, blob=f"inserted-{n}"))
    some = [result("both", questions, right=lambda row: not row.categories or row.policy_name == "Policy L3")]
    found = values(measure(some, questions, resamples=20), "both")
    assert (found["insertions"], found["L3"], found["controls"]) == (0.5, 1.0, 1.0)
    # L4: per family TP 1 and FN 1, so F1 = 2 / 3; L2 and L3 are 1
    assert found["macro F1"] == pytest.approx(8 / 9)


def test_the_target_s_measures_speak_of_the_target_part_alone():
    questions = asked()
    questions["five"] = [one for one in questions["five"] if one.role != "sham"]
    questions["target"] += [row(f"f{n}", "roundtrip", "Policy L3", "unsafe") for n in range(12)]
    put_in = [row(f"f{n}", "edited", "Policy L3", "unsafe", pair_id=f"i{n}", categories=("insertion",)) for n in (0, 1)]
    questions["target"] += [replace(one, blob=f"inserted-{one.family_id}") for one in put_in]
    # Right are the originals, the round trips and the first insertion. So no pair is, of the controls half are, and
    # per family TP 2, FN 1 (the sham) and FP 1 (the twin); of both insertions one is TP, one FN: F1 = 50 / (50 + 25).
    some = [result("target", questions, right=lambda r: r.role in ("original", "roundtrip") or r.blob == "inserted-f0")]
    found = measure(some, questions, resamples=20)
    said = values(found, "target")
    assert (said["target pairs"], said["target controls"], said["target insertions"]) == (0.0, 0.5, 0.5)
    assert said["target F1"] == pytest.approx(50 / 75)
    assert said["target shortcut"] == -0.5  # of 24 unsafe controls 12 are found, of 12 unsafe originals all
    families = {name: one.families for name, one in found["target"][0].items()}
    assert (families["target controls"], families["target insertions"]) == (12, 2)
    assert families["target shortcut"] == 12
    assert "controls" not in said  # five holds none


def test_an_arm_that_is_asked_about_the_target_alone_has_no_other_measure():
    questions = asked()
    one = result("target", questions)
    found = values(
        measure([replace(one, answers={"target": one.answers["target"]})], questions, resamples=20), "target"
    )
    assert found == {"target F1": 1.0, "target pairs": 1.0, "target controls": 1.0, "target shortcut": 0.0}


def test_the_shortcut_is_blind_to_how_much_is_called_unsafe_and_to_insertions():
    questions = asked()
    put_in = [row(f"f{n}", "edited", "Policy L3", "unsafe", pair_id=f"i{n}", categories=("insertion",)) for n in (0, 1)]
    questions["target"] += [replace(one, blob=f"inserted-{one.family_id}") for one in put_in]
    everything = result("target-pairs", questions, right=lambda row: row.label == "unsafe")
    nothing = result("target-controls", questions, right=lambda row: row.label == "safe")
    edits = result("target-originals", questions, right=lambda row: row.role != "original")  # "edited is unsafe"
    found = measure([everything, nothing, edits], questions, resamples=20)
    assert values(found, "target-pairs")["target shortcut"] == values(found, "target-controls")["target shortcut"] == 0
    assert values(found, "target-originals")["target shortcut"] == 1.0
    assert found["target-pairs"][0]["target shortcut"].lowest == -1.0


def test_a_shortcut_without_an_unsafe_control_is_undefined():
    questions = asked()
    questions["target"] = [replace(one, label="safe") if one.role == "sham" else one for one in questions["target"]]
    assert "target shortcut" not in values(measure([result("both", questions)], questions, resamples=20), "both")


def test_a_control_is_compared_with_the_originals_of_families_that_have_one():
    questions = asked()
    first = {f"f{number}" for number in range(6)}  # the others have no control, and their originals are missed
    questions["target"] = [one for one in questions["target"] if one.role != "sham" or one.family_id in first]
    some = [result("target", questions, right=lambda row: row.role != "original" or row.family_id in first)]
    drawn = measure(some, questions, resamples=20)["target"][0]["target shortcut"]
    assert (drawn.value, drawn.families) == (0.0, 6)


def test_pairs_are_those_of_removals_though_an_insertion_is_the_other_side_of_its_original():
    questions = asked()
    for part in ("five", "target"):  # a safe original and what was put into it, which the guard always gets wrong
        for n in range(12):
            policy = "Policy L3"
            original = row(f"i{n}", "original", policy, "safe")
            questions[part] += [original, row(f"i{n}", "edited", policy, "unsafe", categories=("insertion",))]
    some = [result("target", questions, right=lambda row: not row.family_id.startswith("i"))]
    drawn = measure(some, questions, resamples=20)["target"][0]
    assert {name: (drawn[name].value, drawn[name].families) for name in ("pairs", "target pairs")} == {
        "pairs": (1.0, 12),
        "target pairs": (1.0, 12),
    }


def test_collapse_is_what_is_wrong_under_the_other_policies_whatever_the_own_one_gains():
    questions = asked()
    # L2 always wrong, so 0; L4 right on originals only: TP 1, FP 1 per family, so 2 / 3. 1 - (0 + 2/3) / 2 = 2 / 3
    some = [
        result("verdicts-L3", questions, right=lambda row: row.policy_name == "Policy L4" and row.role == "original"),
        result(
            "own-L3",
            questions,
            right=lambda row: "L3" in row.policy_name or (row.policy_name == "Policy L4" and row.role == "original"),
        ),
    ]
    found = measure(some, questions, resamples=20)
    assert values(found, "verdicts-L3")[OTHERS] == pytest.approx(2 / 3)
    assert values(found, "own-L3")[OTHERS] == pytest.approx(2 / 3)


def test_a_policy_without_rules_counts_by_accuracy():
    questions = asked()
    questions["five"] += [row(f"f{n}", "original", "Policy L1", "safe") for n in range(12)]
    questions["five"] = [
        replace(one, policy="Nothing is forbidden.") if one.policy_name == "Policy L1" else one
        for one in questions["five"]
    ]
    some = [result("own-L3", questions, right=lambda row: row.policy_name == "Policy L1" and row.family_id < "f5")]
    right = len([n for n in range(12) if f"f{n}" < "f5"])
    assert values(measure(some, questions, resamples=20), "own-L3")[OTHERS] == pytest.approx(1 - right / 12 / 3)


def test_stage_1_s_error_is_the_mean_over_the_policies_that_guards_are_tuned_on():
    questions = asked()
    for n in range(12):
        questions["five"] += [
            row(f"f{n}", "original", "Policy L5", "unsafe"),
            row(f"f{n}", "edited", "Policy L5", "safe"),
        ]

    def right(row):  # L3 1, L5 and L4 right on originals only, so 2 / 3 as above, L2 0
        return row.policy_name == "Policy L3" or (row.policy_name != "Policy L2" and row.role == "original")

    some = [result(arm, questions, right=right) for arm in (STAGE_1, "own-L3", "own-L5", "captions")]
    found = measure(some, questions, resamples=20)
    # L3: 1 - (0 + 2/3 + 2/3) / 3 = 5 / 9; L5: 1 - (0 + 1 + 2/3) / 3 = 4 / 9; their mean 1 / 2
    assert values(found, "own-L3")[OTHERS] == pytest.approx(5 / 9)
    assert values(found, "own-L5")[OTHERS] == pytest.approx(4 / 9)
    assert values(found, STAGE_1)[OTHERS] == pytest.approx(1 / 2)
    assert OTHERS not in values(found, "captions")
    assert TUNED == ("L3", "L5")


def test_the_curve_s_area_by_the_trapezoid_rule():
    questions = asked()
    some = [
        result(BASE, questions, right=never),
        result("recaptions", questions, seed=1, right=always),
        result("rl-2", questions, seed=1, curve={4: never, 10: always}),
        result("both-2", questions, seed=1, curve={4: never, 10: always}),
    ]
    found = measure(some, questions, resamples=20)
    # rl-2: 0 at step 0, 0 at 4, 1 at 10: (4 * 0 + 6 * 0.5) / 10; both-2 starts at 1: (4 * 0.5 + 6 * 0.5) / 10
    assert values(found, "rl-2", 1)[CURVE] == pytest.approx(0.3)
    assert values(found, "both-2", 1)[CURVE] == pytest.approx(0.5)
    order = next(one for one in judge(found, {}) if one.key == "order")
    assert order.by_seed == {1: pytest.approx(0.2)}
    assert CURVE not in values(measure(some[2:], questions, resamples=20), "rl-2", 1)  # where did it start?


def test_an_own_curve_is_told_by_its_own_seed():
    questions = asked()
    some = [result("recaptions", questions, seed=0), result("both-2", questions, seed=1, curve={4: never})]
    assert CURVE not in values(measure(some, questions, resamples=20), "both-2", 1)


def test_arms_that_answer_alike_have_no_difference_in_any_draw():
    questions = asked()
    some = [
        result(arm, questions, seed=seed, right=lambda row: row.role != "sham")
        for arm in ("both", "recaptions")
        for seed in (0, 1)
    ]
    one = next(o for o in judge(measure(some, questions, resamples=20), {"reward": REWARD}) if o.key == "rewards")
    assert (one.verdict, one.low, one.high) == ("does not hold", 0.0, 0.0)


# The pages

ARMS = (("base", "1 base"), ("recaptions", "2 stage 1"), ("both", "3 both | stages"), ("no-pairs", "4 not run"))
ABOUT = {"families": 12, "machine": "two <cores>"}
POWER = ["rewards: a difference of 9.9 points is seen", "pairs: one of 8.8 points is"]


@pytest.fixture(scope="module")
def found():
    """Stage 1 is right on one family of two, both stages on all; two seeds each."""
    questions = asked()
    half = {f"f{number}" for number in range(0, 12, 2)}
    some = [result(BASE, questions, right=never, ability=[1.0] * 10)]
    for seed in (0, 1):
        some.append(result("recaptions", questions, seed=seed, right=lambda row: row.family_id in half))
        some.append(result("both", questions, seed=seed, ability=[1.0] * 9 + [0.4 * seed]))
    return some, questions


@pytest.fixture(scope="module")
def pages(found, tmp_path_factory):
    work = tmp_path_factory.mktemp("pages") / "work"
    path = write_pages(work, ABOUT, POWER, *found, {"reward": REWARD}, ARMS, resamples=50)
    return {one.name: one.read_text() for one in (path, work / "miniature.html", work / "claims.json")}


def test_the_arms_table_has_mean_and_spread_over_seeds(found):
    header, *rows = arms_table(measure(*found, resamples=10), ARMS)
    assert header == ("arm", *COLUMNS)
    assert [line[0] for line in rows] == ["1 base", "2 stage 1", "3 both | stages"]
    cells = dict(zip(header, rows[2], strict=True))
    # ability 90 and 94: mean 92, and a standard deviation of 4 / sqrt(2) = 2.8
    assert (cells["macro F1"], cells["ability"], cells["L1"]) == ("100 ± 0", "92 ± 3", "-")
    assert dict(zip(header, rows[0], strict=True))["ability"] == "100"  # one seed has no spread
    assert dict(zip(header, rows[1], strict=True))["ability"] == "-"


def test_a_mean_that_rounds_to_zero_has_no_sign():
    questions = asked(families=250)
    missed = result(BASE, questions, right=lambda row: row.family_id != "f7" or row.role != "sham")
    shown = dict(zip(*arms_table(measure([missed], questions, resamples=2), ARMS), strict=True))
    assert shown["target shortcut"] == "0"  # -0.4 points: one control of 250


def test_the_claims_table_says_the_points_the_design_and_the_check(found):
    judged = judge(measure(*found, resamples=200), {"reward": REWARD})
    header, *rows = claims_table(judged)
    assert header == ("key", "claim", "verdict", "points", "seeds x families", "detectable", "manipulation check")
    assert len(rows) == len(CLAIMS)
    by_key = dict(zip((claim.key for claim in CLAIMS), rows, strict=True))
    key, _, verdict, points, size, seen, check = by_key["rewards"]
    # Stage 1 over two families: TP = FP = FN = 1 under L2 and L4, so F1 = 1 / 2; the shams under L3 make TP = FN = 2,
    # so 4 / 7. Macro F1 = 11 / 21; that of both stages is 1, so 10 / 21 more.
    assert (key, verdict, points[:7], size) == ("rewards", "holds", "+47.6 [", "2 x 12")
    assert float(seen) > 0
    assert check == "passed: The reward rises in stage 2 (0.31, needs 0.1)"
    assert by_key["pairs-rewards"][2:] == ("not measured (without no-pairs)", "-", "-", "-", "-")
    assert by_key["ability"][2] == "not measured (without the check ability)"
    assert by_key["stage-1"][-1] == "-"


def test_a_zero_has_no_sign_and_one_seed_no_interval(found):
    results, questions = found
    some = [r for r in results if r.seed == 0 and r.arm != BASE] + [replace(results[1], arm=BASE)]
    rows = dict(
        zip((c.key for c in CLAIMS), claims_table(judge(measure(some, questions, resamples=10), {}))[1:], strict=True)
    )
    assert rows["stage-1"][2:] == ("undecided (one seed)", "0.0", "1 x 12", "-", "-")


def test_the_first_line_says_what_a_miniature_cannot_show(pages):
    lines = pages["miniature.md"].splitlines()
    assert lines[0].startswith("# ")
    assert lines[2].startswith(FIRST_LINE)
    run = lines.index("## This run")
    assert lines[run + 2 : run + 4] == ["- families: 12", "- machine: two <cores>"]
    assert FIRST_LINE in pages["miniature.html"]


def test_the_pages_hold_every_claim_and_every_arm_that_ran(pages):
    text, html = pages["miniature.md"], pages["miniature.html"]
    assert text.index("## Decisive") < text.index("## All claims") < text.index("## Arms")
    for claim in CLAIMS:
        assert f"| {claim.key} | {claim.sentence} |" in text
    assert "| 3 both \\| stages |" in text  # a bar would end the cell
    assert "4 not run" not in text + html
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in tables} == {5, 8, len(COLUMNS) + 2}
    assert html.count("<svg") == 1
    assert "two &lt;cores&gt;" in html
    assert "color-scheme: light dark" in html
    for page in (" ".join(text.split()), " ".join(html.split())):
        assert "Detectable: from which true difference" in page
        assert "Everywhere else higher is better, except for" in page


def test_what_the_design_can_see_stands_on_the_page(pages):
    for line in POWER:
        key, _, said = line.partition(": ")
        assert f"- `{key}`: {said}" in pages["miniature.md"].splitlines()


WORDS = {2: "two", 3: "three", 4: "four", 20: "Twenty"}


def test_the_page_says_what_is_forbidden_and_what_is_asked(pages):
    text = " ".join(pages["miniature.md"].split())
    assert f"something that {TARGET} forbids" in text
    assert f"under {WORDS[FIVE_EACH]} of the five, in rotation, and under {TARGET} for" in text
    assert f"{WORDS[len(held_out_policies())]} are held out, {WORDS[HELD_OUT_EACH]} for each family: " in text
    assert f"bare verdicts of one policy, {TARGET}, about" in text
    assert f"`target`: under {TARGET} alone" in text


def test_the_page_states_the_world_as_it_is_drawn(pages):
    """Its numbers are written out, so they are held against those that count."""
    text = " ".join(pages["miniature.md"].split())
    assert f"any other bright in all but {100 * (1 - CONFOUND):.0f} % of them" in text
    assert "Half of the training families" in text
    assert "in test, where four fifths of the families do" in text
    assert _FORBIDDEN == {"train": 0.5, "test": 0.8}
    assert f"Into {100 * INSERTED:.0f} % of the safe families that have room for it, something that {TARGET}" in text
    assert f"through {_EDITOR_SIDE_PX} x {_EDITOR_SIDE_PX} pixels and JPEG of quality {_EDITOR_JPEG}" in text
    assert f"in {100 * FALSE_SHARE:.0f} % of its drafts" in text
    assert f"up to {WORDS[TRIES]} are drawn until one has the right verdict" in text
    assert f"fine-tuning on {TUNING_ROWS} questions" in text
    assert f"of {WORDS[ATTEMPTS]} attempts" in text
    assert "there are twice as many steps" in text
    assert VISION_TIMES == 2
    assert f"- {len(CLAIMS)} claims are tested at 95 % each" in text


def test_what_was_judged_is_kept(pages):
    kept = {one["key"]: one for one in json.loads(pages["claims.json"])}
    assert list(kept) == [claim.key for claim in CLAIMS]
    assert kept["rewards"]["verdict"] == "holds"
    assert kept["rewards"]["by_seed"] == {"0": pytest.approx(10 / 21), "1": pytest.approx(10 / 21)}
    assert kept["rewards"]["check"]["name"] == "reward"
    assert kept["pairs-rewards"]["difference"] is None


def test_equal_results_give_equal_pages(found, pages, tmp_path):
    results, questions = found
    path = write_pages(tmp_path, ABOUT, POWER, results[::-1], questions, {"reward": REWARD}, ARMS, resamples=50)
    for name, text in pages.items():
        assert (path.parent / name).read_text() == text


def test_nothing_measured_is_a_page_too(tmp_path):
    path = write_pages(tmp_path, {}, [], [], {"five": [], "target": [], "held_out": []}, {}, ARMS)
    assert path.read_text().count("not measured (without") == len(CLAIMS) + len(DECISIVE)
    assert "<svg" not in (tmp_path / "miniature.html").read_text()
