"""Which verdict rows an export trains on."""

import dataclasses
import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guard.export.balance import balanced
from guard.export.cells import Cell, _under, boundaries, labelled
from guard.export.dataset import Dataset, ImageRow
from guard.export.prepare import check_policies
from guard.export.settings import GuardSettings, RlSettings
from guard.export.views import DRAWN_POLICIES, rows_of, training_cells
from micro.world import WORLD
from policies.engine import Policy, PolicySet, Rule
from policies.randomised import randomised
from storage.errors import FatalError


def everything(data: Dataset) -> list[Cell]:
    return labelled(data, "train", lambda _: "train")


def trained(data: Dataset, **options: object) -> list[Cell]:
    return training_cells(data, everything(data), RlSettings(**options), seed=0)


def trained_with(seed: int, data: Dataset, **options: object) -> list[Cell]:
    return training_cells(data, everything(data), RlSettings(**options), seed=seed)


def cell(image: str, policy: str, verdict: str) -> Cell:
    row = ImageRow(image, image, image, image, "original", 1, 1, "CC0", True, "0" * 16)
    return Cell(row, policy, "", "text", verdict, "human", None)  # type: ignore[arg-type]


def test_both_sides_of_a_pair_stand_together_under_each_policy(dataset: Dataset) -> None:
    cells = everything(dataset)
    keys = [(c.image.original_id, c.policy_id) for c in cells]
    assert len(set(keys)) == sum(1 for i, k in enumerate(keys) if i == 0 or keys[i - 1] != k)


def test_a_cell_knows_whether_the_other_side_differs(dataset: Dataset) -> None:
    # A knife: unsafe under L3, where its twin is safe; safe under L4, as its twin is.
    found = {(c.image.role, c.policy_id): c.other_verdict for c in everything(dataset) if _shows(dataset, c, "blade")}
    assert (found["original", "L3"], found["edited", "L3"]) == ("safe", "unsafe")
    assert (found["original", "L4"], found["edited", "L4"]) == ("", "")


def _shows(data: Dataset, found: Cell, attribute: str) -> bool:
    return data.attributes[found.image.original_id] == (attribute,) and found.image.original_id in data.paired


def test_only_the_boundary_when_asked(dataset: Dataset) -> None:
    cells = trained(dataset, boundary_only=True)
    assert cells
    for original, policy in {(c.image.original_id, c.policy_id) for c in cells}:
        sides = {c.verdict for c in cells if (c.image.original_id, c.policy_id) == (original, policy)}
        assert sides == {"safe", "unsafe"}


def test_the_rules_label_changed_policies(dataset: Dataset) -> None:
    cells = trained(dataset, counterfactuals=2)
    base = {(c.image.image_id, c.policy_id): c for c in cells if c.source != "rule"}
    changed = [c for c in cells if c.source == "rule"]
    assert len(base) == len(everything(dataset))
    assert all(c.label is None and c.variant.split()[0] in ("with", "without") for c in changed)
    for image in {c.image.image_id for c in changed}:
        turned = [c.verdict != base[image, c.policy_id].verdict for c in changed if c.image.image_id == image]
        assert turned.count(True) <= 2
        assert turned.count(False) <= 2
    # An empty twin breaks no rule, so no change of policy turns it; a knife can be turned both ways.
    shown = {True: Counter(), False: Counter()}
    for c in changed:
        shown[c.image.role == "original"][c.verdict != base[c.image.image_id, c.policy_id].verdict] += 1
    assert shown[False][True] == 0
    assert shown[True][True] > 0


def test_where_people_contradict_the_rules_the_rules_are_not_asked(dataset: Dataset) -> None:
    contradicted = tuple(
        dataclasses.replace(x, verdict="safe" if x.derived == "unsafe" else "unsafe") if x.verdict else x
        for x in dataset.labels
    )
    assert not [c for c in trained(dataclasses.replace(dataset, labels=contradicted), counterfactuals=9) if not c.label]
    assert not [c for c in trained(dataclasses.replace(dataset, attributes={}), counterfactuals=9) if not c.label]


def test_random_policies_are_labelled_by_the_rules_alone(dataset: Dataset) -> None:
    base = {(c.image.image_id, c.policy_id): c for c in everything(dataset)}
    drawn = {(r.base_id, r.change): r for r in randomised(WORLD, DRAWN_POLICIES, 0)}
    found = [c for c in trained(dataset, random_policies=2) if c.source == "rule"]
    assert {c.variant.split()[1] for c in found} == {"single", "overrides"}
    turned: Counter[tuple[str, bool]] = Counter()
    for c in found:
        policy = drawn[c.policy_id, c.variant].policy
        derived = WORLD.derive(policy, dataset.attributes[c.image.image_id])
        assert (c.text, c.verdict, c.label) == (policy.text, derived.verdict, None)
        assert [f"{policy.id}.{rule}" for rule in c.rules] == list(derived.rules)
        turned[c.image.image_id, c.verdict != base[c.image.image_id, c.policy_id].verdict] += 1
    assert max(turned.values()) <= 2
    shows = {image: bool(dataset.attributes[image]) for image, _ in turned}
    assert any(n == 2 for (image, is_turned), n in turned.items() if is_turned and shows[image])
    assert not any(is_turned and not shows[image] for image, is_turned in turned)  # an empty twin breaks nothing
    assert found == [c for c in trained(dataset, random_policies=2) if c.source == "rule"]
    assert found != [c for c in trained_with(1, dataset, random_policies=2) if c.source == "rule"]


def test_a_random_policy_holds_no_rule_on_which_people_and_rules_differ(dataset: Dataset) -> None:
    """Where people call everything unsafe under L5, its rules are not trusted, nor drawn beside others."""
    contradicted = tuple(
        dataclasses.replace(x, verdict="unsafe", derived="safe") if x.policy_id == "L5" else x for x in dataset.labels
    )
    doubted = dataclasses.replace(dataset, labels=contradicted)
    drawn = {(r.base_id, r.change): r for r in randomised(WORLD, DRAWN_POLICIES, 0)}
    found = [c for c in trained(doubted, random_policies=4) if c.source == "rule"]
    assert found
    assert not any("L5" in drawn[c.policy_id, c.variant].sources for c in found)


def test_an_unsafe_cell_without_rules_is_one_whose_rules_are_not_known(dataset: Dataset) -> None:
    """Evidence that leaves a further rule open: the verdict is sure, the set is not."""
    policy = Policy(
        id="L3", name="N", setting="S.", preamble="P.",
        rules=(
            Rule(id="R1", text="A knife is unsafe.", unsafe_when=("blade",)),
            Rule(id="R2", text="Two bottles are unsafe.", unsafe_when={"at_least": {2: ["alcohol"]}}),
        ),
    )  # fmt: skip
    world = PolicySet(WORLD.vocabulary, (policy,))
    base = everything(dataset)[0]
    for shown, rules in ((["blade"], ("R1",)), (["blade", "alcohol"], ())):  # a name does not say how many there are
        (found,) = _under(base, [("changed", policy)], world, shown)
        assert (found.verdict, found.rules) == ("unsafe", rules)


def test_boundaries_are_every_two_opposite_verdicts_of_an_image(dataset: Dataset) -> None:
    cells = [cell("a", "L1", "safe"), cell("a", "L2", "unsafe"), cell("a", "L3", "unsafe"), cell("b", "L1", "safe")]
    found = [(b.image.image_id, b.safe.policy_id, b.unsafe.policy_id) for b in boundaries(cells)]
    assert found == [("a", "L1", "L2"), ("a", "L1", "L3")]
    assert found == [(b.image.image_id, b.safe.policy_id, b.unsafe.policy_id) for b in boundaries(cells[::-1])]


def test_a_row_says_who_labelled_it_and_under_which_text(dataset: Dataset) -> None:
    cells = trained(dataset, counterfactuals=1, paraphrases=1)
    rows = list(rows_of("rl", dataset, "train", cells, lambda _: b"png"))
    assert len({row["sample_id"] for row in rows}) == len(rows)
    for row, found in zip(rows, cells, strict=True):
        assert row["policy"] in row["problem"]
        assert row["label_source"] == json.loads(row["prov_json"])["label"]["source"] == found.source
        name = f"Policy {found.policy_id}"
        assert row["extra_info"]["policy_name"] == (f"{name}, {found.variant}" if found.variant else name)
    changed = next(row for row in rows if row["label_source"] == "rule")
    assert changed["policy"] not in {p.text for p in dataset.policies}


def test_wordings_repeat_the_verdict_in_other_words(dataset: Dataset) -> None:
    cells = trained(dataset, paraphrases=2)
    assert len(cells) == 3 * len(everything(dataset))
    for image, policy in {(c.image.image_id, c.policy_id) for c in cells}:
        same = [c for c in cells if (c.image.image_id, c.policy_id) == (image, policy)]
        assert len({c.verdict for c in same}) == 1
        assert len({c.text for c in same}) == 3


def test_wordings_that_do_not_exist_are_a_plain_sentence(dataset: Dataset) -> None:
    with pytest.raises(FatalError, match="asks for 3 wordings; policy L1 has 2"):
        check_policies(dataset, GuardSettings(rl=RlSettings(paraphrases=3)))


def test_a_policy_is_balanced_by_dropping_the_surplus() -> None:
    cells = [cell(f"i{i}", "A", "unsafe") for i in range(8)] + [cell(f"j{i}", "A", "safe") for i in range(2)]
    cells += [cell(f"k{i}", "B", "safe") for i in range(3)]  # nothing to balance against
    weights = balanced(cells, ["policy"], seed=1)
    kept = Counter((c.policy_id, c.verdict) for c in cells if c.cell_id in weights)
    assert kept == {("A", "unsafe"): 2, ("A", "safe"): 2, ("B", "safe"): 3}
    # 8 unsafe rows are told by 2: each stands for 4. The others stand for themselves.
    assert {c.verdict: weights[c.cell_id] for c in cells if c.cell_id in weights and c.policy_id == "A"} == {
        "unsafe": 4.0,
        "safe": 1.0,
    }
    assert list(weights) == [c.cell_id for c in cells if c.cell_id in weights]
    assert weights != balanced(cells, ["policy"], seed=2)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3), st.booleans()), max_size=30, unique_by=lambda t: t[:2]))
def test_balance_is_exact_for_what_comes_last_and_weights_make_up_for_it(rows: list[tuple[int, int, bool]]) -> None:
    cells = [cell(f"i{i}", f"P{p}", "unsafe" if unsafe else "safe") for i, p, unsafe in rows]
    weights = balanced(cells, ["policy", "image"], seed=0)
    kept = [c for c in cells if c.cell_id in weights]
    for policy in {c.policy_id for c in kept}:
        counts = Counter(c.verdict for c in kept if c.policy_id == policy)
        assert len(counts) == 1 or counts["safe"] == counts["unsafe"]
    only = balanced(cells, ["policy"], seed=0)
    assert sum(only.values()) == pytest.approx(len(cells))
    assert all(w >= 1 for w in weights.values())


def test_without_balance_every_row_stays_and_weighs_one(dataset: Dataset) -> None:
    assert {c.weight for c in trained(dataset)} == {1.0}
    assert len(trained(dataset)) == len(everything(dataset))


def test_the_verdicts_of_the_fixture_follow_the_rules(dataset: Dataset) -> None:
    policies = {p.id: p for p in dataset.policies}
    for found in everything(dataset):
        shown = dataset.attributes[found.image.image_id]
        assert WORLD.derive(policies[found.policy_id], shown).verdict == found.verdict
