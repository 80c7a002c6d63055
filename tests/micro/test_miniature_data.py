"""What every guard of the miniature is asked: policies that take turns, and labels that follow from the pictures."""

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from guard.contract.features import IMAGE, TEXT, arrow_schema, class_label
from guard.evaluation.tally import EvalRow
from micro.miniature.data import FIVE_EACH, HELD_OUT_EACH, Asked, MiniatureData, questions_of
from micro.miniature.families import TARGET
from micro.miniature.held_out import held_out_policies
from micro.world import WORLD
from policies.evidence import Evidence, Thing
from tests.guard.evaluated import picture

FAMILIES = 20
ROLES = ("original", "edited", "sham")
NAMES = [f"Policy {policy.id}" for policy in WORLD]
SHOWN = {"original": ("blade", "cup"), "edited": ("cup",), "sham": ("blade", "cup")}


def name_of(number: int, role: str) -> str:
    return f"f{number:02}.png" if role == "original" else f"f{number:02}_{role}.png"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> MiniatureData:
    """Twenty families of an original, an edited twin and a sham, each under the five policies."""
    rows = [
        {
            "image": {"bytes": picture(number, role), "path": name_of(number, role)},
            "image_path": name_of(number, role),
            "safety_label": int(WORLD.derive(policy, SHOWN[role]).verdict == "unsafe"),
            "policy_name": place,
            "policy": policy.text,
        }
        for number in range(FAMILIES)
        for role in ROLES
        for place, policy in enumerate(WORLD)
    ]
    features = {"image": IMAGE, "image_path": TEXT, "safety_label": class_label(["safe", "unsafe"]),
                "policy_name": class_label(NAMES), "policy": TEXT}  # fmt: skip
    path = tmp_path_factory.mktemp("asked") / "test.parquet"
    pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema(features)), path)
    shown = {name_of(number, role): SHOWN[role] for number in range(FAMILIES) for role in ROLES}
    return MiniatureData("", str(path), shown, {name_of(3, "edited")}, {})


@pytest.fixture(scope="module")
def asked(data: MiniatureData) -> Asked:
    return questions_of(data)


def policies_by_family(rows: list[EvalRow]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for one in rows:
        found.setdefault(one.family_id, set()).add(one.policy_name)
    return found


@pytest.mark.parametrize(("part", "each"), [("five", FIVE_EACH), ("target", 1), ("held_out", HELD_OUT_EACH)])
def test_all_pictures_of_a_family_are_asked_about_under_the_same_policies(asked: Asked, part: str, each: int) -> None:
    rows = list(asked.questions[part])  # type: ignore[index]
    assert len(rows) == FAMILIES * len(ROLES) * each
    assert {len(names) for names in policies_by_family(rows).values()} == {each}
    cells = Counter((one.family_id, one.role, one.policy_name) for one in rows)
    assert set(cells.values()) == {1}


def test_policies_take_turns_so_that_each_is_asked_about_as_often(asked: Asked) -> None:
    five, held_out = asked.questions["five"], asked.questions["held_out"]
    # 20 families of 3 pictures: 180 questions about five policies, 180 about twenty
    assert Counter(one.policy_name for one in five) == dict.fromkeys(NAMES, 36)
    assert Counter(one.policy_name for one in held_out) == {f"Policy {p.id}": 9 for p in held_out_policies()}
    turns = list(policies_by_family(list(five)).values())
    assert len({frozenset(names) for names in turns}) == 5


def test_the_target_part_is_every_picture_under_the_target_policy(asked: Asked) -> None:
    assert {one.policy_name for one in asked.questions["target"]} == {f"Policy {TARGET}"}
    assert len({one.blob for one in asked.questions["target"]}) == FAMILIES * len(ROLES)


def test_labels_under_held_out_policies_follow_from_what_the_pictures_show(asked: Asked, data: MiniatureData) -> None:
    by_name = {f"Policy {policy.id}": policy for policy in held_out_policies()}
    for one in asked.questions["held_out"]:
        policy = by_name[one.policy_name]
        things = {kind: (Thing(),) for kind in data.shown[one.image_path]}
        assert one.label == WORLD.derive(policy, Evidence(WORLD.vocabulary, things)).verdict
        assert (one.policy, one.rules) == (policy.text, ())
    ids = [one.row_id for part in asked.questions.values() for one in part]
    assert len(set(ids)) == len(ids) - len(_both(asked))  # a target row may be one of the five's, too


def _both(asked: Asked) -> set[str]:
    return {one.row_id for one in asked.questions["five"]} & {one.row_id for one in asked.questions["target"]}


def test_insertions_are_marked_in_every_part(asked: Asked) -> None:
    for rows in asked.questions.values():
        marked = {one.image_path for one in rows if one.categories == ("insertion",)}
        assert marked == {name_of(3, "edited")}


def test_every_question_has_its_picture(asked: Asked) -> None:
    for part in asked.questions:
        for one, image in asked.items(part):
            number, role = int(one.family_id[1:]), one.role
            assert image == picture(number, role)
