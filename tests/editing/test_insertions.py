"""Insertions: harmless things alone, into what is plainly safe, and believed only when a witness sees them there."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from editing.boxes import Region
from editing.certify import CertifyStage, Witnesses
from editing.controls import ControlSettings, plan_controls
from editing.edit import EditStage, plan_edits
from editing.editors import WindowEditor
from editing.insertions import check_insertions, losing_excuses, plan_insertions
from editing.measure import judge
from editing.questions import Asked, ask
from editing.select import derive_pairs
from editing.settings import CertifySettings, EditingSettings
from editing.witness import Arrival
from policies.engine import Policy, PolicySet, Rule
from policies.loading import load_pack, load_policy_set
from policies.vocabulary import Attribute, Vocabulary
from storage.errors import FatalError
from storage.images import decode_mask, decode_stored, encode_png
from storage.records.editing import Certificate, Edit, EditTask, Finding, Located
from storage.records.images import Image
from storage.records.tables import to_table
from tests.drawing import draw
from tests.fakes import FakeChat, FakeImageEditor, FakeLocator, edit_settings

VOCABULARY = Vocabulary(
    (
        Attribute(id="weapon", noun="weapon", sensitive=True),
        Attribute(id="handgun", noun="handgun", sensitive=True, is_a=["weapon"], drawable=True),
        Attribute(id="knife", noun="knife", sensitive=True, is_a=["weapon"], drawable=True),
        Attribute(id="bomb", noun="bomb", sensitive=True),
        Attribute(id="museum_label", noun="museum label", sensitive=False),
        Attribute(id="cup", noun="cup", sensitive=False, drawable=True),
        Attribute(id="human", noun="human being", sensitive=False),
        Attribute(id="child", noun="child", sensitive=False, minor=True, is_a=["human"]),
    )
)
RULES = (
    Rule(id="R1", text="A firearm or a bomb is unsafe.", unsafe_when=["handgun", "bomb"]),
    Rule(id="R2", text="A knife is unsafe, unless in a museum.", unsafe_when=["knife"], unless=["museum_label"]),
)
HOUSE = Policy(id="House", name="House", setting="A house.", preamble="Be calm.", rules=RULES)
ALL = ControlSettings(insert=("handgun", "knife"), insert_share=1)
SIZE = (200, 150)


def scene(number, *findings, aside=()):
    """An image, and what was found: (attribute, box)."""
    blob = f"{number:064d}"
    image = Image(blob, blob, blob, "k", *SIZE, "PNG", "0" * 16, "", True, "{}")
    found = tuple(Finding(f"{name}{box}", (name,), (), box, "", "", 1.0) for name, box in findings)
    return image, Located(blob, tuple(sorted({name for name, _ in findings})), found, "locator", aside)


def plan(*scenes, settings=ALL, policies=(HOUSE,), vocabulary=VOCABULARY):
    return plan_insertions(*(list(part) for part in zip(*scenes, strict=True)), policies, vocabulary, settings)


CUP = ("cup", (0, 0, 40, 40))


def test_a_safe_image_is_given_a_forbidden_thing_where_nothing_was_found():
    tasks = plan(*(scene(number, CUP) for number in range(40)))
    assert len(tasks) == 40
    for task in tasks:
        (place,) = task.targets
        x0, y0, x1, y1 = place.box
        assert (x1 - x0, y1 - y0) == (45, 45)  # 30 % of 150
        assert 0 <= x0 < x1 <= 200
        assert 0 <= y0 < y1 <= 150
        assert x0 >= 40 or y0 >= 40
        (name,) = place.attributes
        noun = VOCABULARY[name].noun
        assert (task.kind, task.prompt, place.instruction) == ("insert", f"a {noun}", f"Add a {noun}.")
    assert {task.targets[0].attributes[0] for task in tasks} == {"handgun", "knife"}
    assert len({task.targets[0].box for task in tasks}) > 30


def test_the_choice_depends_on_the_image_alone_and_the_share_holds():
    scenes = [scene(number) for number in range(400)]
    tasks = plan(*scenes, settings=ALL.model_copy(update={"insert_share": 0.3}))
    assert 120 - 37 < len(tasks) < 120 + 37  # 400 draws of 0.3: mean 120, standard deviation 9.2
    few = plan(*scenes[:50], settings=ALL.model_copy(update={"insert_share": 0.3}))
    assert few == tasks[: len(few)]


@pytest.mark.parametrize(
    "found",
    [
        scene(1, ("bomb", (0, 0, 9, 9))),  # forbidden
        scene(1, ("weapon", (0, 0, 9, 9))),  # may be forbidden
        scene(1, ("child", (0, 0, 9, 9))),
        scene(1, ("human", (0, 0, 9, 9))),  # may be a child
        scene(1, CUP, aside=("lamp",)),  # nobody knows what it is
        scene(1, ("cup", (0, 0, 200, 150))),  # no free place
        (scene(1)[0], scene(2)[1]),  # nobody looked
    ],
)
def test_what_is_not_plainly_safe_or_may_show_a_child_is_left_alone(found):
    assert plan(found) == []


def test_only_what_breaks_a_rule_there_is_put_in():
    """A knife beside a museum label is allowed, so such an image is given the handgun."""
    tasks = plan(*(scene(number, ("museum_label", (0, 0, 9, 9))) for number in range(20)))
    assert {task.targets[0].attributes for task in tasks} == {("handgun",)}


def test_it_is_off_by_default():
    assert plan(scene(1), settings=ControlSettings()) == []
    assert plan_edits(*([part] for part in scene(1, CUP)), [HOUSE], VOCABULARY) == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tank", "which the vocabulary does not have"),
        ("bomb", "does not mark `drawable: true`. Only harmless objects are; nudity"),
        ("cup", "which no target policy forbids"),
    ],
)
def test_names_that_cannot_be_drawn_are_refused(name, says):
    with pytest.raises(FatalError, match=says):
        check_insertions([name], [HOUSE], VOCABULARY)
    with pytest.raises(FatalError, match=says):
        plan(scene(1), settings=ControlSettings(insert=(name,)))


@pytest.mark.parametrize("noun", ["severed head", "stripper", "soldier", "bottle of blood clots", "skin rash"])
def test_only_listed_objects_are_drawn(noun):
    words = [a if a.id != "handgun" else a.model_copy(update={"noun": noun}) for a in VOCABULARY.attributes]
    with pytest.raises(FatalError, match="is none of the objects that are drawn: ammunition, arrow"):
        check_insertions(["handgun"], [HOUSE], Vocabulary(tuple(words)))


@pytest.mark.parametrize("noun", [None, "baby bottle", "child seat"])
def test_where_nobody_looks_for_a_child_nothing_is_drawn(noun):
    others = [a for a in VOCABULARY.attributes if a.id != "child"]
    childless = Vocabulary((*others, *([Attribute(id="other", noun=noun, sensitive=False)] if noun else ())))
    with pytest.raises(FatalError, match="no word for a child, so nobody looks for one"):
        check_insertions(["handgun"], [HOUSE], childless)


def test_a_child_is_known_by_its_name_without_a_mark():
    assert load_pack("paper").vocabulary.perhaps_minors == {"child", "dancer", "kiss", "protest"}
    check_insertions(["handgun", "cigarette"], load_pack("paper"), load_pack("paper").vocabulary)


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ("{id: x, noun: nude adult, sensitive: true, drawable: true}", "nude"),
        ("{id: x, noun: doll, synonyms: [sex toy], sensitive: true, drawable: true}", "sex"),
        ("{id: x, noun: open wound, sensitive: true, drawable: true}", "wound"),
        ("{id: x, noun: piece of lingerie, sensitive: true, drawable: true}", "lingerie"),
        ("{id: x, noun: toddler, sensitive: false, drawable: true}", "toddler"),
        ("{id: x, noun: mascot, sensitive: false, minor: true, drawable: true}", "a minor"),
        ("{id: x, noun: stain, is_a: gore, sensitive: true, drawable: true}", "gore"),
    ],
)
def test_no_vocabulary_can_mark_bodies_injuries_or_people_as_drawable(tmp_path, entry, word):
    (tmp_path / "vocabulary.yaml").write_text(
        f"version: 1\nattributes:\n  - {{id: gore, noun: gore, sensitive: true}}\n  - {entry}\n"
    )
    (tmp_path / "House.yaml").write_text("{id: House, name: H, setting: s, preamble: p, rules: []}")
    with pytest.raises(FatalError, match=f"attribute x is marked drawable, and {word} is no harmless object"):
        load_policy_set(tmp_path)


def test_what_the_shipped_pack_marks_is_drawn_as_an_object():
    drawable = {a.id for a in load_pack("paper").vocabulary.values() if a.drawable}
    assert {"handgun", "knife", "cigarette", "beer"} <= drawable
    assert drawable.isdisjoint(
        "nude_adult exposed_breast sexual_act lingerie bikini blood wound corpse self_harm_scar noose child kiss "
        "embrace fight masked_militant hate_symbol swastika bomb identity_card".split()
    )


CHAT = {"model": "vlm", "server": {"base_url": "http://127.0.0.1:1/v1"}}
DRAWS = {"model": "images", "size_px": 512, "endpoint": {"base_url": "http://127.0.0.1:1/v1"}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"locate": {"source": "manifest", "manifest": "regions.json", **CHAT}}, "do not say that no child is visible"),
        ({"certify": {"recheck": "none"}}, "only a witness sees"),
        ({"locate": {**CHAT, "label_map": {"*": None}}}, "what it ignores may be a child"),
        ({"edit": {"model": "opencv-telea"}}, "an editor that draws"),
    ],
)
def test_settings_without_what_an_insertion_needs_are_refused(changes, says):
    whole = {"locate": CHAT, "edit": DRAWS, "controls": {"insert": ["handgun"]}}
    assert EditingSettings(**whole).controls.insert == ("handgun",)
    with pytest.raises(ValidationError, match=says):
        EditingSettings(**{**whole, **changes})


def seen(before, after, inside=None, unknown=(), target="handgun"):
    return Arrival(
        Counter(before.split()),
        Counter(after.split()),
        Counter((after if inside is None else inside).split()),
        tuple(unknown),
        target,
        VOCABULARY,
    )


@pytest.mark.parametrize(
    ("arrival", "reasons"),
    [
        (seen("cup", "cup handgun", "handgun"), ()),
        (seen("cup", "cup weapon", "weapon"), ()),  # under a more general name
        (seen("", ""), ("insertion_missing",)),
        (seen("cup", "cup", "cup"), ("insertion_missing",)),
        (seen("cup", "cup handgun", ""), ("insertion_missing", "new_attribute")),  # elsewhere
        (seen("", "handgun handgun", "handgun"), ("new_attribute",)),  # one there, one elsewhere
        (seen("handgun", "handgun handgun", "handgun"), ("already_there", "new_attribute")),
        (seen("weapon", "weapon handgun", "handgun"), ("already_there", "new_attribute")),
        (seen("cup", "handgun", "handgun"), ("neutral_lost",)),
        (seen("cup cup", "cup handgun", "handgun"), ("neutral_lost",)),
        (seen("", "handgun cup", "handgun"), ("new_attribute",)),
        (seen("", "knife", "knife"), ("insertion_missing", "new_attribute")),
        (seen("", "handgun child", "handgun"), ("minor_beside_sensitive", "new_attribute")),
        (seen("human", "human handgun", "handgun"), ("minor_beside_sensitive",)),
        (seen("", "handgun", unknown=["small boy"]), ("minor_beside_sensitive",)),
        (seen("", "handgun", unknown=["lamp"]), ("minor_beside_sensitive",)),  # whatever has no name may be
    ],
)
def test_a_witness_must_find_it_there_and_not_before(arrival, reasons):
    assert arrival.reasons() == reasons


def test_the_edited_image_shows_what_the_witness_calls_it():
    assert seen("cup", "cup handgun").attributes_after(("cup", "museum_label")) == ("cup", "handgun", "museum_label")
    assert seen("", "weapon").attributes_after(()) == ("weapon",)
    assert seen("cup", "cup").attributes_after(("cup",)) == ("cup",)


THING = (10, 10, 220)


class Draws(FakeImageEditor):
    """Paints a smooth thing in the middle of the hole, and leaves the rest of it."""

    asked: list = []  # noqa: RUF012

    def edit(self, edits):
        self.asked += [(edit.prompt, edit.instruction) for edit in edits]
        return [self._painted(edit) for edit in edits]

    def _painted(self, edit):
        rows, columns = np.nonzero(edit.mask)
        image = np.array(edit.image)
        height, width = np.ptp(rows) // 4, np.ptp(columns) // 4
        image[rows.min() + height : rows.max() - height, columns.min() + width : columns.max() - width] = THING
        return image


def sees_the_thing(rgb):
    rows, columns = np.nonzero((np.abs(rgb.astype(int) - THING) < 3).all(axis=-1))
    if len(rows) < 20:
        return ()
    box = (int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1)
    return (Region(("handgun",), box),)


def inserted(workspace, editor, find=sees_the_thing, looks=True):
    """An insertion that went through edit and certify."""
    blob = workspace.blobs.put(encode_png(draw(3, SIZE)))
    image, row = scene(1)
    (task,) = plan(
        (replace(image, image_id=blob, blob=blob), replace(row, image_id=blob)),
        settings=ControlSettings(insert=("handgun",), insert_share=1),
    )
    stage = EditStage(workspace, WindowEditor(editor, context_ratio=1.8), edit_settings())
    (edit,) = stage.run_shard(to_table([task], EditTask)).ok
    witnesses = Witnesses(FakeLocator(find)) if looks else Witnesses()
    certify = CertifyStage(workspace, witnesses, 3, CertifySettings(), None, VOCABULARY)
    (certified,) = certify.run_shard(to_table([edit], Edit)).ok
    return task, certified


def test_an_insertion_is_certified_and_turns_the_verdict(workspace):
    task, edit = inserted(workspace, editor := Draws())
    assert (edit.verdict, edit.reasons) == ("accepted", ())
    assert (edit.kind, edit.target_attributes, edit.attributes_removed) == ("insert", ("handgun",), ())
    assert edit.attributes_added == ("handgun",)
    assert editor.asked[-1][0] == "a handgun"
    assert editor.asked[-1][1].startswith("Add a handgun.")
    mask = decode_mask(workspace.blobs.get(edit.mask))
    original, edited = (decode_stored(workspace.blobs.get(blob)) for blob in (edit.original_blob, edit.edited_id))
    np.testing.assert_array_equal(original[~mask], edited[~mask])
    x0, y0, x1, y1 = task.targets[0].box
    assert mask[y0:y1, x0:x1].all()
    (pair,) = derive_pairs(edit, PolicySet(VOCABULARY, (HOUSE,)))
    assert (pair.before, pair.after, pair.rules_after, pair.flips) == ("safe", "unsafe", ("House.R1",), True)


@pytest.mark.parametrize(
    ("editor", "find", "looks", "reason"),
    [
        (FakeImageEditor(), sees_the_thing, True, "insertion_missing"),  # something else was painted
        (Draws(), lambda _: (), True, "insertion_missing"),
        (Draws(), sees_the_thing, False, "insertion_missing"),  # nobody looks: an editor's word is none
        (Draws(), lambda _: (Region(("handgun",), (0, 0, 9, 9)),), True, "already_there"),
    ],
)
def test_an_insertion_that_nobody_sees_is_refused(workspace, editor, find, looks, reason):
    _, edit = inserted(workspace, editor, find, looks=looks)
    assert edit.verdict == "rejected"
    assert reason in edit.reasons
    assert edit.certificate is not None
    if not looks:
        assert edit.certificate.attributes_after == edit.attributes_before


def test_its_own_grain_and_what_is_left_around_it_say_nothing_against_it():
    edit = Edit(
        "e", "i", "o", "0" * 16, "x", "f", "insert", 0, 0, (), ("handgun",), "m", "editor", 1, 1, "0" * 16, None, (),
        None, (),
    )  # fmt: skip
    certificate = Certificate(
        0, 1.0, 0.5, 0.1, 0, ("handgun",), detail_kept=9.0, flat_share=0.9, rough_share=0.9, seam_share=0.9
    )
    assert judge(edit, certificate, CertifySettings()) == ("visible_seam",)
    assert judge(edit, replace(certificate, inside_changed_ratio=0.01), CertifySettings())[0] == "unchanged"
    assert judge(edit, replace(certificate, outside_max_abs_diff=1), CertifySettings())[0] == "outside_changed"


def test_whether_it_is_gone_is_not_asked_of_what_was_put_in(workspace):
    _, edit = inserted(workspace, Draws())
    chat = FakeChat(lambda request: "yes")
    asked = Asked(edit, draw(1, SIZE), np.ones(SIZE[::-1], dtype=bool))
    (answers,) = ask(chat, ["Is there no {targets} here?", "Does it look real?"], VOCABULARY, [asked])
    assert {answer.question for answer in answers} == {"Does it look real?"}


KNIFE, LABEL = ("knife", (10, 10, 60, 60)), ("museum_label", (70, 10, 90, 30))


def lose(*findings, share=1.0):
    image, row = scene(1, *findings)
    removals = plan_edits([image], [row], [HOUSE], VOCABULARY)
    return losing_excuses(removals, [row], [HOUSE], VOCABULARY, ControlSettings(excuse_share=share))


def test_what_an_exception_makes_safe_loses_the_excuse():
    (task,) = lose(KNIFE, LABEL)
    assert task.kind == "remove"
    assert [(f.attributes, f.instruction) for f in task.targets] == [(("museum_label",), "Remove the museum label.")]
    policies = PolicySet(VOCABULARY, (HOUSE,))
    assert policies.derive(HOUSE, task.attributes).verdict == "safe"
    assert policies.derive(HOUSE, {"knife"}).verdict == "unsafe"


@pytest.mark.parametrize(
    ("findings", "share"),
    [
        ((KNIFE, LABEL), 0.0),  # off by default
        ((KNIFE,), 1.0),
        ((KNIFE, LABEL, ("bomb", (100, 100, 120, 120))), 1.0),  # unsafe as it is
    ],
)
def test_any_other_image_loses_what_is_forbidden(findings, share):
    assert ControlSettings().excuse_share == 0
    (task,) = lose(*findings, share=share)
    assert {a for f in task.targets for a in f.attributes} == {"knife", *(a for a, _ in findings if a == "bomb")}


def test_controls_are_made_of_removals_as_before():
    image, row = scene(1, KNIFE, LABEL)
    (task,) = lose(KNIFE, LABEL)
    settings = ControlSettings(sham_share=1, roundtrip_share=0)
    (sham,) = plan_controls([task], [image], [row], settings)
    assert sham.kind == "sham"
