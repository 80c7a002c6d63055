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
from micro import GUARD
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
    right_answers,
    training_rows,
    with_texts,
)
from micro.world import VOCABULARY, WORLD
from models.chat import ChatReply, ChatRequest
from recaption.certify import judge
from recaption.settings import MinimalitySettings
from recaption.spans import diff
from storage.errors import FatalError
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
    """Two policies. Of four families one is safe and has something put in, one nothing, and two an edited twin, which
    is safe, with a control."""
    edits = (("insert",), ("remove", "sham"), (), ("remove", "roundtrip"))
    return [
        rl_row(f"f{number:02}", role, policy, "safe" if role == "remove" or is_safe(number, role) else "unsafe")
        for number in range(families)
        for role in ("original", *edits[number % 4])
        for policy in ("L3", "L4")
    ]


def is_safe(number: int, role: str) -> bool:
    """Whether it is the original of a safe family."""
    return role == "original" and number % 4 == 0


def kind_of(row: Row) -> str:
    return str(json.loads(row["prov_json"]).get("edit", {}).get("kind", "original"))


# As many rows for every arm, and as many safe ones as unsafe ones

# Rows of `rl_rows` by part, unsafe and safe. Of 30 families 8 are safe and have something put in, and 15 have a twin,
# which is safe, and a control. With two policies these are originals 44 and 16, twins 0 and 30, controls 30 and 0, and
# insertions 16 and 0.
HELD = {"originals": (44, 16), "pairs": (44, 46), "controls": (74, 46), "": (90, 46)}
EACH = 16


def labels_of(rows: Sequence[Row]) -> Counter[str]:
    return Counter(row["reward_model"]["ground_truth"] for row in rows)


def test_every_part_gets_as_many_safe_and_unsafe_rows_as_the_poorest_has() -> None:
    rows = rl_rows()
    assert set(ROLES) == set(HELD)
    for part, roles in ROLES.items():
        able = labels_of([row for row in rows if kind_of(row) in roles])
        assert (able["unsafe"], able["safe"]) == HELD[part]
        chosen = equal_rows(rows, part)
        assert labels_of(chosen) == {"safe": EACH, "unsafe": EACH}
        assert len({row["sample_id"] for row in chosen}) == 2 * EACH
        assert {kind_of(row) for row in chosen} <= set(roles)


def test_each_part_adds_its_own_kinds_of_edits() -> None:
    """Insertions would tell, as controls do, that an edited picture may be unsafe; only rewards see them."""
    kinds = {part: set(roles) for part, roles in ROLES.items()}
    assert kinds["originals"] == {"original"}
    assert kinds["pairs"] - kinds["originals"] == {"remove"}
    assert kinds["controls"] - kinds["pairs"] == {"sham", "roundtrip"}
    assert kinds[""] - kinds["controls"] == {"insert"}
    for part, some in kinds.items():
        assert {kind_of(row) for row in equal_rows(rl_rows(200), part)} == some


def test_the_poorer_label_of_the_poorest_part_decides_whichever_it_is() -> None:
    rows = [rl_row(f"f{n}", "original", label="unsafe" if n < 2 else "safe") for n in range(9)]
    rows += [rl_row(f"f{n}", "sham") for n in range(5)]
    for part in ROLES:
        assert labels_of(equal_rows(rows, part)) == {"safe": 2, "unsafe": 2}  # two unsafe originals
    one_sided = [row for row in rows if row["reward_model"]["ground_truth"] == "unsafe"]
    assert [equal_rows(one_sided, part) for part in ROLES] == [[]] * len(ROLES)


@pytest.mark.parametrize("part", ROLES)
def test_a_hash_decides_whatever_order_the_rows_come_in(part: str) -> None:
    rows = rl_rows(200)
    chosen = equal_rows(rows, part)
    assert equal_rows(rows[::-1], part) == chosen
    for label in ("safe", "unsafe"):
        some = [row["sample_id"] for row in chosen if row["reward_model"]["ground_truth"] == label]
        assert some == sorted(some, key=lambda name: content_id("row", name))
        assert some != sorted(some)  # not the first families, but of all
        able = [row for row in rows if kind_of(row) in ROLES[part] and row["reward_model"]["ground_truth"] == label]
        assert some == sorted((row["sample_id"] for row in able), key=lambda name: content_id("row", name))[: len(some)]
    assert len({family_of(row) for row in chosen}) > 60  # of 200; 2 x 100 rows of two policies


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


# Originals of 8 families, three each of a knife and a handgun and two of a bottle, are unsafe 0, 6, 6, 5 and 5 times
# under L1 to L5: of 40 rows 22 are unsafe and 18 safe, under L3 6 and 2. No other part has fewer of a label.
EACH_OF_ALL, EACH_OF_TARGET = 18, 2


def truth_of(sets: Sets) -> dict[str, Row]:
    """The rows with their labels, by sample."""
    return {row["sample_id"]: row for row in training_rows(sets.data.train, "rl")}


def names_of(folder: str) -> list[str]:
    return [row["sample_id"] for row in training_rows(folder, "sft")]


def said_in(folder: str) -> dict[str, str]:
    return {row["sample_id"]: row["completion"][0]["content"] for row in training_rows(folder, "sft")}


def test_tuning_on_the_target_policy_has_equal_rows_of_it_alone(sets: Sets) -> None:
    truth = truth_of(sets)
    for part in ("originals", "pairs", "controls"):
        rows = rows_of(sets, f"target-{part}")
        known = [truth[row["sample_id"]] for row in rows]
        assert labels_of(known) == {"safe": EACH_OF_TARGET, "unsafe": EACH_OF_TARGET}
        assert {row["extra_info"]["policy_name"] for row in known} == {f"Policy {TARGET}"}
        assert {kind_of(row) for row in rows} <= set(ROLES[part])
        said = {row["sample_id"]: row["completion"][0]["content"] for row in rows}
        assert said == bare_verdicts(known)


def test_sets_for_rewards_have_equal_rows_and_stage_1_its_captions(sets: Sets) -> None:
    everything, originals = rows_of(sets, "rl", "rl"), rows_of(sets, "rl-originals", "rl")
    for rows in (everything, originals):
        assert labels_of(rows) == {"safe": EACH_OF_ALL, "unsafe": EACH_OF_ALL}
    assert {kind_of(row) for row in originals} == {"original"}
    assert {kind_of(row) for row in everything} == {"original", "remove", "sham"}
    assert sets.folder("recaptions") == sets.data.train
    own = {row["completion"][0]["content"] for row in rows_of(sets, "captions")}
    assert own == {row.caption for row in sets.data.recaptions.values()}


def keep_answers(sets: Sets, seed: int, of: Callable[[Row], str]) -> list[str]:
    """As if stage 1 had answered every other row of `rl` right; their names in order."""
    rows = sorted(rows_of(sets, "rl", "rl"), key=lambda row: str(row["sample_id"]))[::2]
    path = sets.work / f"own-answers-{seed}.json"
    path.write_text(json.dumps({row["sample_id"]: of(row) for row in rows}))
    return [row["sample_id"] for row in rows]


def right(row: Row) -> str:
    return reasoned(row["reward_model"]["ground_truth"])


def test_a_seed_s_tuning_sets_hold_the_same_rows_reasoned_or_bare(sets: Sets) -> None:
    some, truth = keep_answers(sets, 7, right), truth_of(sets)
    own, bare = sets.tuning("own", "not loaded", 7), sets.tuning("verdicts", "not loaded", 7)
    assert names_of(own) == names_of(bare)
    assert sorted(names_of(own)) == some  # 18 of 36, fewer than the most that tuning draws from
    assert len(some) == EACH_OF_ALL < TUNING_ROWS
    assert said_in(own) == {name: right(truth[name]) for name in some}
    assert said_in(bare) == bare_verdicts([truth[name] for name in some])


@pytest.mark.parametrize("policy", ["L3", "L5"])
def test_tuning_on_one_policy_takes_the_rows_that_ask_about_it(sets: Sets, policy: str) -> None:
    some, truth = keep_answers(sets, 7, right), truth_of(sets)
    named = [name for name in some if truth[name]["extra_info"]["policy_name"] == f"Policy {policy}"]
    assert 0 < len(named) < len(some)
    for base in ("own", "verdicts"):
        folder = sets.tuning(f"{base}-{policy}", "not loaded", 7)
        assert sorted(names_of(folder)) == named
        whole = said_in(sets.tuning(base, "not loaded", 7))
        assert said_in(folder) == {name: whole[name] for name in named}


def test_every_seed_has_answers_and_sets_of_its_own(sets: Sets) -> None:
    for seed in (7, 8):
        keep_answers(sets, seed, lambda row, seed=seed: f"said under seed {seed}")  # type: ignore[misc]
    folders = [sets.tuning("own-L4", "not loaded", seed) for seed in (7, 8)]
    assert folders == [str(sets.work / f"own-L4-seed-{seed}") for seed in (7, 8)]
    assert [set(said_in(folder).values()) for folder in folders] == [{"said under seed 7"}, {"said under seed 8"}]


def test_answers_are_drawn_once_from_the_weights_that_tuning_starts_from(sets: Sets) -> None:
    truth = truth_of(sets)
    own = said_in(sets.tuning("own", str(GUARD), 9))
    assert own
    for name, text in own.items():
        assert parse_answer(text).verdict == truth[name]["reward_model"]["ground_truth"]
    kept = json.loads((sets.work / "own-answers-9.json").read_text())
    assert own == kept
    assert set(own) <= {row["sample_id"] for row in rows_of(sets, "rl", "rl")}
    assert not list(sets.work.glob("*.part"))
    assert set(names_of(sets.tuning("verdicts", "not loaded", 9))) == set(own)
    with pytest.raises(FatalError):  # another seed has to draw
        sets.tuning("own", "not there", 10)
    assert not (sets.work / "own-answers-10.json").exists()


def test_a_set_that_is_there_is_left_alone(sets: Sets) -> None:
    info = Path(sets.folder("target-pairs"), "dataset_info.json")
    before = info.stat().st_mtime_ns
    assert sets.folder("target-pairs") == str(info.parent)
    assert info.stat().st_mtime_ns == before
