"""What the miniature's arms train on, derived row by row."""

import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as PilImage

from guard.contract.prompt import parse_answer
from guard.export.dataset import Records, assemble
from guard.export.settings import GuardSettings
from guard.export.write import export
from micro.miniature.data import MiniatureData
from micro.miniature.families import TARGET
from micro.miniature.sets import (
    ATTEMPTS,
    FALSE_SHARE,
    ROLES,
    TRIES,
    TUNING_ROWS,
    Drafts,
    Row,
    Sets,
    answered,
    bare_verdicts,
    drafts,
    equal_rows,
    false_share,
    family_of,
    of_roles,
    right_answers,
    training_rows,
    with_texts,
)
from micro.world import VOCABULARY, WORLD
from models.chat import ChatReply, ChatRequest
from recaption.certify import judge
from recaption.settings import MinimalitySettings
from recaption.spans import diff
from storage.records.ids import content_id
from storage.records.recaption import Placed, Recaption
from storage.workspace import Workspace
from tests.guard.conftest import KINDS, draw, edit_of, encoded, label_of, original, recaption_of


def picture() -> bytes:
    sink = io.BytesIO()
    PilImage.new("RGB", (32, 32), (10, 20, 30)).save(sink, "PNG")
    return sink.getvalue()


PICTURE = picture()


def rl_row(family: str, role: str, policy: str = "L3", label: str = "unsafe") -> Row:
    """As an export's rl view has it; `role` is the kind of edit, or original."""
    name = f"{family}-{role}-{policy}"
    edit = {} if role == "original" else {"edit": {"kind": role}}
    return {
        "prompt": [{"role": "user", "content": f"question {name}"}],
        "conversation": [{"role": "user", "content": f"<image>\nquestion {name}"}],
        "images": [{"bytes": PICTURE, "path": f"{name}.png"}],
        "solution": f"<answer>{label}</answer>",
        "reward_model": {"style": "rule", "ground_truth": label},
        "extra_info": {"policy_name": f"Policy {policy}"},
        "rules": [f"{policy}.R1"],
        "sample_id": name,
        "pair_id": family,
        "pair_role": "edited" if role in ("remove", "insert") else role,
        "prov_json": json.dumps({"family_id": family, "image_id": f"{family}-{role}", **edit}),
    }


def rl_rows(families: int = 30) -> list[Row]:
    """Two policies. Of four families one has something put in, one nothing, and two an edited twin with a control, so
    no two parts have as many rows."""
    edits = (("insert",), ("remove", "sham"), (), ("remove", "roundtrip"))
    return [
        rl_row(f"f{number:02}", role, policy)
        for number in range(families)
        for role in ("original", *edits[number % 4])
        for policy in ("L3", "L4")
    ]


def kind_of(row: Row) -> str:
    return str(json.loads(row["prov_json"]).get("edit", {}).get("kind", "original"))


# As many rows for every arm


def test_every_part_gets_as_many_rows_as_the_poorest_has() -> None:
    rows = rl_rows()
    # 30 families and 2 policies: originals 60, 15 twins 30, 15 controls 30, and 8 insertions 16
    counts = {part: len(of_roles(rows, roles)) for part, roles in ROLES.items()}
    assert counts == {"originals": 60, "pairs": 60 + 30, "": 60 + 30 + 30 + 16}
    for part, roles in ROLES.items():
        chosen = equal_rows(rows, part)
        assert len(chosen) == 60
        assert {kind_of(row) for row in chosen} == set(roles)
        assert len({row["sample_id"] for row in chosen}) == 60


def test_pairs_come_without_insertions() -> None:
    """They would tell, as controls do, that an edited picture may be unsafe."""
    assert "insert" in ROLES[""]
    assert {kind_of(row) for row in equal_rows(rl_rows(), "pairs")} == {"original", "remove"}


@pytest.mark.parametrize("part", ROLES)
def test_families_are_whole_but_for_the_last(part: str) -> None:
    rows = rl_rows()
    whole = Counter(family_of(row) for row in of_roles(rows, ROLES[part]))
    chosen = [family_of(row) for row in equal_rows(rows, part)]
    order = list(dict.fromkeys(chosen))
    assert chosen == sorted(chosen, key=order.index)  # one family after the other
    held = Counter(chosen)
    assert all(held[family] == whole[family] for family in order[:-1])


def test_parts_begin_with_the_same_families_in_an_order_that_is_not_the_rows() -> None:
    rows = rl_rows()
    orders = [list(dict.fromkeys(family_of(row) for row in equal_rows(rows, part))) for part in ROLES]
    shortest = min(orders, key=len)
    assert all(order[: len(shortest)] == shortest for order in orders)
    assert shortest != sorted(shortest)
    assert equal_rows(rows[::-1], "") == equal_rows(rows, "")


def test_a_part_with_fewer_pictures_of_a_family_gets_more_families() -> None:
    rows = rl_rows()
    count = {part: len({family_of(row) for row in equal_rows(rows, part)}) for part in ROLES}
    assert count[""] < count["pairs"] < count["originals"] == 30


# Verdicts, bare and reasoned


def test_an_answered_row_is_a_row_of_stage_1() -> None:
    row = rl_row("f", "sham")
    (made,) = answered([row], {"f-sham-L3": "said"})
    assert made["completion"] == [{"role": "assistant", "content": "said"}]
    assert made["conversation"] == [*row["conversation"], *made["completion"]]
    kept = ("prompt", "images", "rules", "sample_id", "pair_id", "prov_json")
    assert {name: made[name] for name in kept} == {name: row[name] for name in kept}
    assert set(made) == {*kept, "completion", "conversation"}  # the columns of the view


def test_rows_without_an_answer_or_of_another_policy_are_left_out() -> None:
    rows = [rl_row("f", "original", policy) for policy in ("L3", "L4", "L5")]
    said = {row["sample_id"]: "said" for row in rows[:2]}
    assert [row["sample_id"] for row in answered(rows, said)] == ["f-original-L3", "f-original-L4"]
    assert [row["sample_id"] for row in answered(rows, said, "Policy L4")] == ["f-original-L4"]
    assert answered(rows, said, "Policy L5") == []


@pytest.mark.parametrize("label", ["safe", "unsafe"])
def test_a_bare_verdict_is_a_valid_answer_without_a_reason(label: str) -> None:
    said = bare_verdicts([rl_row("f", "sham", label=label)])
    assert said == {"f-sham-L3": f"<think></think><answer>{label}</answer>"}
    answer = parse_answer(said["f-sham-L3"])
    assert (answer.verdict, answer.think) == (label, "")


def reasoned(verdict: str) -> str:
    return f"<think>The image shows a knife: unsafe.</think><answer>{verdict}</answer>"


class Scripted:
    """A guard that answers each question by its try; it remembers what it was asked."""

    fingerprint = "scripted"

    def __init__(self, says: Callable[[str, int], str]) -> None:
        self._says = says
        self.batches: list[Sequence[ChatRequest]] = []

    def generate(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        self.batches.append(requests)
        return [ChatReply(self._says(self.name(one), one.seed), "stop", ((32, 32),), 1, 1, 0.0) for one in requests]

    @staticmethod
    def name(request: ChatRequest) -> str:
        return request.prompt.removeprefix("question ")

    @property
    def tries(self) -> dict[str, list[int]]:
        """The seeds of each question."""
        found = defaultdict(list)
        for batch in self.batches:
            for one in batch:
                found[self.name(one)].append(one.seed)
        return dict(found)


ANSWERS = {
    "f-original-L3": [reasoned("unsafe")],  # right at once
    "g-original-L3": [reasoned("safe"), "unsafe", reasoned("unsafe")],  # wrong, in no form, right
    "h-original-L3": [reasoned("safe")] * TRIES,
    "i-remove-L3": [reasoned("unsafe"), reasoned("safe")],
}


def test_only_right_answers_are_kept_and_only_open_questions_are_asked_again() -> None:
    rows = [rl_row(family, "original") for family in "fgh"] + [rl_row("i", "remove", label="safe")]
    guard = Scripted(lambda name, seed: ANSWERS[name][seed])
    found = right_answers(rows, guard)
    assert found == {
        "f-original-L3": reasoned("unsafe"),
        "g-original-L3": reasoned("unsafe"),
        "i-remove-L3": reasoned("safe"),
    }
    assert guard.tries == {"f-original-L3": [0], "g-original-L3": [0, 1, 2], "h-original-L3": [0, 1, 2, 3],
                           "i-remove-L3": [0, 1]}  # fmt: skip
    assert [row["sample_id"] for row in answered(rows, found)] == ["f-original-L3", "g-original-L3", "i-remove-L3"]


def test_the_guard_is_asked_in_batches_about_the_picture_and_by_chance() -> None:
    rows = [rl_row(f"f{number}", "original") for number in range(130)]
    guard = Scripted(lambda name, seed: reasoned("unsafe"))
    assert len(right_answers(rows, guard)) == 130
    assert [len(batch) for batch in guard.batches] == [64, 64, 2]
    for batch in guard.batches:
        for one in batch:
            assert one.temperature == 1.0
            assert [image.size for image in one.images] == [(32, 32)]


# A rewriter that errs

PLACES = ("top", "left", "right", "bottom")
SENSITIVE = [name for name, entry in VOCABULARY.items() if entry.sensitive]
START = "A dark photograph taken in mostly warm tones, showing a rather busy background"


def recaption(number: int, *kinds: str) -> Recaption:
    """An accepted one, whose caption left out the sensitive kinds."""
    told = " and ".join(f"a {VOCABULARY[kind].noun} at the {PLACES[n]}" for n, kind in enumerate(kinds))
    caption, text = f"{START}.", f"{START} with {told}." if told else f"{START}."
    change = diff(caption, text, VOCABULARY)
    row = Recaption(
        content_id("scene", number), caption, text, kinds, change.inserted, change.deleted,
        change.kept_ratio, change.length_ratio, "m", "p", "accepted", (),
        findings=tuple(Placed(kind, PLACES[n]) for n, kind in enumerate(kinds)),
    )  # fmt: skip
    assert not judge(row, MinimalitySettings(), VOCABULARY)
    return row


def data_of(rows: Sequence[Recaption], shown: dict[str, Sequence[str]] | None = None) -> MiniatureData:
    there = {f"{row.image_id[:16]}.png": row.attributes for row in rows}
    return MiniatureData("", "", there if shown is None else shown, (), {row.image_id: row for row in rows})


@pytest.fixture(scope="module")
def world() -> MiniatureData:
    """Recaptions that restore none, one or two things, 120 of each."""
    rows = []
    for number in range(360):
        first, second = SENSITIVE[number % 8], SENSITIVE[(number + 1 + number // 8 % 7) % 8]
        rows.append(recaption(number, *(first, second)[: number % 3]))
    return data_of(rows)


def names_what_is_not_there(text: str, row: Recaption) -> bool:
    return bool(VOCABULARY.mentioned(text) - set(row.attributes))


def test_the_certificate_lets_nothing_false_through(world: MiniatureData) -> None:
    found = drafts(world, VOCABULARY)
    assert list(found) == sorted(world.recaptions)
    restored = {name: one for name, one in found.items() if world.recaptions[name].attributes}
    for image_id, one in found.items():
        row = world.recaptions[image_id]
        assert one.certified in (row.text, None)
        assert names_what_is_not_there(one.first, row) == (one.first != row.text)
        if one.first == row.text:
            assert one.certified == row.text  # what is true is not refused
    false = sum(one.first != world.recaptions[name].text for name, one in restored.items())
    refused = sum(one.certified is None for one in restored.values())
    assert len(restored) == 240
    # three standard errors: of 0.35 sqrt(0.35 * 0.65 / 240) * 3 = 0.092; both false 0.35^2 = 0.1225, and 0.063
    assert abs(false / 240 - FALSE_SHARE) < 0.092
    assert abs(refused / 240 - FALSE_SHARE**ATTEMPTS) < 0.063
    assert drafts(world, VOCABULARY) == found


def test_a_false_draft_calls_one_restored_thing_by_another_sensitive_name_and_adds_none(world: MiniatureData) -> None:
    for image_id, one in drafts(world, VOCABULARY).items():
        row = world.recaptions[image_id]
        told, true = VOCABULARY.mentioned(one.first), set(row.attributes)
        assert len(told) == len(true)
        assert len(told - true) == int(one.first != row.text)
        assert all(VOCABULARY[name].sensitive for name in told)


def test_the_certificate_is_asked_about_each_draft_itself(world: MiniatureData) -> None:
    """A false draft, judged by hand: its own words are put in, and no finding accounts for them."""
    found = drafts(world, VOCABULARY)
    name = next(name for name, one in found.items() if one.first != world.recaptions[name].text)
    row, text = world.recaptions[name], found[name].first
    change = diff(row.caption, text, VOCABULARY)
    said = replace(row, text=text, inserted=change.inserted, deleted=change.deleted, kept_ratio=change.kept_ratio)
    assert {"ungrounded_insertion", "finding_not_covered"} & set(judge(said, MinimalitySettings(), VOCABULARY))


def test_where_nothing_is_restored_no_draft_errs(world: MiniatureData) -> None:
    for image_id, one in drafts(world, VOCABULARY).items():
        row = world.recaptions[image_id]
        if not row.attributes:
            assert one == Drafts(row.text, row.text)


def test_checked_and_unchecked_captions_are_of_the_same_pictures(world: MiniatureData, tmp_path: Path) -> None:
    sets = Sets(world, tmp_path)
    checked, unchecked = sets.texts("checked"), sets.texts("unchecked")
    assert list(checked) == list(unchecked)
    assert 0 < len(checked) < len(world.recaptions)
    assert checked == {name: world.recaptions[name].text for name in checked}
    assert false_share(checked, world) == 0
    # Of about 240 (1 - 0.1225) = 211 with something restored, 0.35 * 0.65 / 0.8775 = 0.259 are false at first, that is
    # 55 of 211 + 120 = 331 in all, or 0.165; three standard errors are 3 * 6.4 / 331 = 0.058.
    assert abs(false_share(unchecked, world) - 0.165) < 0.058


def test_the_false_share_counts_sensitive_things_that_are_not_there() -> None:
    rows = [recaption(n, "blade") for n in range(4)]
    texts = [
        f"{START} with a knife at the top.",
        f"{START} with a knife at the top and a ball at the left.",  # not there, and not sensitive
        f"{START} with a knife at the top and a bomb at the left.",
        f"{START}.",  # says too little, which is not false
    ]
    said = {row.image_id: text for row, text in zip(rows, texts, strict=True)}
    assert false_share(said, data_of(rows)) == 0.25
    bare = {f"{row.image_id[:16]}.png": () for row in rows}
    assert false_share(said, data_of(rows, bare)) == 0.75  # the knife is false now, too


def sft_row(image_id: str, text: str) -> dict[str, Any]:
    completion = [{"role": "assistant", "content": text}]
    return {
        "prompt": [{"role": "user", "content": "Describe"}],
        "completion": completion,
        "conversation": [{"role": "user", "content": "<image>\nDescribe"}, *completion],
        "sample_id": f"sample-{image_id}",
        "prov_json": json.dumps({"image_id": image_id}),
    }


def test_other_texts_take_the_completion_s_place_and_rows_without_one_go() -> None:
    rows = [sft_row("a", "old a"), sft_row("b", "old b")]
    (made,) = with_texts(rows, {"b": "new", "c": "of no row"})
    completion = [{"role": "assistant", "content": "new"}]
    assert made == {**rows[1], "completion": completion, "conversation": [rows[1]["conversation"][0], *completion]}
    assert rows[1] == sft_row("b", "old b")  # untouched


# The sets by name, from a real export

FAMILIES = 8


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Sets:
    """Eight families, all in training: an original, its twin and a sham under five policies."""
    folder = tmp_path_factory.mktemp("sets")
    workspace = Workspace.open(folder / "workspace")
    images = [original(workspace, number) for number in range(FAMILIES)]
    shows = {image.image_id: (KINDS[number % 3][0],) for number, image in enumerate(images)}
    edits = []
    for number, image in enumerate(images):
        sham = workspace.blobs.put(encoded(draw(100 + number, with_object=True), "PNG"))
        changes = {"edit_id": content_id("sham", image.image_id), "kind": "sham", "edited_id": sham}
        edits.append(edit_of(workspace, image, number))
        edits.append(edit_of(workspace, image, number, **changes, attributes_removed=()))
        shows |= {edits[-2].edited_id: (), sham: shows[image.image_id]}
    recaptions = [recaption_of(image, number) for number, image in enumerate(images)]
    labels = [label_of(image_id, policy, some) for image_id, some in shows.items() for policy in WORLD]
    made = assemble(Records(images, edits, recaptions, labels, WORLD))
    path = export(made, workspace, GuardSettings(test_ratio=0.0)).path
    shown = {image.file_name: shows[image.image_id] for image in made.sorted_images()}
    data = MiniatureData(path, "", shown, (), {row.image_id: row for row in recaptions})
    return Sets(data, folder / "sets")


def rows_of(sets: Sets, name: str, view: Any = "sft") -> list[Row]:
    return training_rows(sets.folder(name), view)


def test_tuning_on_the_target_policy_has_equal_rows_of_it_alone(sets: Sets) -> None:
    policies = {row["sample_id"]: row["extra_info"]["policy_name"] for row in training_rows(sets.data.train, "rl")}
    for part, roles in ROLES.items():
        rows = rows_of(sets, f"target-{part}" if part else "target")
        assert len(rows) == FAMILIES  # as many as there are originals
        assert {policies[row["sample_id"]] for row in rows} == {f"Policy {TARGET}"}
        assert {kind_of(row) for row in rows} == set(roles) - {"insert", "roundtrip"}  # of which there are none
        for row in rows:
            assert parse_answer(row["completion"][0]["content"]).think == ""


def test_tuning_sets_hold_bare_verdicts_of_one_policy_or_of_all(sets: Sets) -> None:
    truth = {row["sample_id"]: row for row in training_rows(sets.data.train, "rl")}
    every = rows_of(sets, "verdicts")
    assert len(every) == min(FAMILIES * len(list(WORLD)), TUNING_ROWS)  # as many as there are originals
    for row in every:
        said = parse_answer(row["completion"][0]["content"])
        assert (said.verdict, said.think) == (truth[row["sample_id"]]["reward_model"]["ground_truth"], "")
    names = {row["sample_id"] for row in every if "L5" in truth[row["sample_id"]]["extra_info"]["policy_name"]}
    assert {row["sample_id"] for row in rows_of(sets, "verdicts-L5")} == names != set()


def test_own_answers_are_those_that_were_drawn_once(sets: Sets) -> None:
    some = sorted(row["sample_id"] for row in rows_of(sets, "verdicts"))[::2]
    sets.work.mkdir(exist_ok=True)
    (sets.work / "own-answers.json").write_text(json.dumps({name: reasoned("safe") for name in some}))
    assert sorted(row["sample_id"] for row in rows_of(sets, "own")) == some
    assert {row["completion"][0]["content"] for row in rows_of(sets, "own-L3")} == {reasoned("safe")}


def test_sets_for_rewards_have_equal_rows_and_stage_1_its_captions(sets: Sets) -> None:
    everything, originals = rows_of(sets, "rl", "rl"), rows_of(sets, "rl-originals", "rl")
    assert len(everything) == len(originals) == FAMILIES * len(list(WORLD))
    assert {kind_of(row) for row in originals} == {"original"}
    assert {kind_of(row) for row in everything} == {"original", "remove", "sham"}
    assert sets.folder("recaptions") == sets.data.train
    own = {row["completion"][0]["content"] for row in rows_of(sets, "captions")}
    assert own == {row.caption for row in sets.data.recaptions.values()}


def test_a_set_that_is_there_is_left_alone(sets: Sets) -> None:
    info = Path(sets.folder("target"), "dataset_info.json")
    before = info.stat().st_mtime_ns
    assert sets.folder("target") == str(info.parent)
    assert info.stat().st_mtime_ns == before
