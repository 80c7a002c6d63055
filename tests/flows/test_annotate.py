"""The flows around people, with a stand-in for the server: what is published, and what is kept from whom."""

import threading
import time

import pytest

from annotation import pair, publish
from annotation.publish import published
from annotation.tasks import open_project
from flows import annotate
from flows.annotate import may_show, pairs_of, publish_build, publish_build_pairs
from flows.outcome import read_outcome
from guard.contract.splits import drawn_split
from micro.preset import preset
from micro.world import VOCABULARY, WORLD
from storage.errors import FatalError
from tests.annotation.fake_studio import FakeStudio
from tests.flows.finished_build import finish

OPTED_OUT = preset({"annotation": {"opt_outs": {"ann@example.org": ["blade"]}}})


@pytest.fixture
def studio(workspace, monkeypatch):
    finish(workspace)
    studio = FakeStudio()
    monkeypatch.setattr(annotate, "studio_client", lambda root, settings: studio)
    return studio


def test_an_edit_counts_as_showing_what_its_original_shows(workspace, studio):
    shown = may_show(read_outcome(workspace))
    assert shown["knife"] == shown["remove-knife"] == shown["edit-remove-knife"] == {"blade"}
    assert (shown["remove-love"], shown["calm"]) == ({"heart"}, set())


def test_pairs_are_the_edits_that_removed_something(workspace, studio):
    pairs = pairs_of(read_outcome(workspace), VOCABULARY)
    assert [(p.edit_id, p.original_blob, p.edited_blob) for p in pairs] == [
        ("edit-remove-knife", "blob-knife", "remove-knife"), ("edit-remove-love", "blob-love", "remove-love"),
    ]  # fmt: skip
    assert pairs[0].what == "knife"  # the noun, not the attribute's id


def test_who_opted_out_is_kept_from_images_and_pairs(workspace, studio):
    done = publish_build(OPTED_OUT, workspace.store.root)
    assert done.published == 6  # three originals, three edits
    skipped = {fields["id"] for fields in studio.annotated}
    images = {task.id: task.data["image_id"] for task in studio.task_rows}
    assert {images[task_id] for task_id in skipped} == {"knife", "remove-knife", "sham-knife"}
    assert {(f["completed_by"], f["was_cancelled"]) for f in studio.annotated} == {(4, True)}

    publish_build_pairs(OPTED_OUT, workspace.store.root)
    (pair,) = studio.annotated[3:]
    (task,) = [task for task in studio.task_rows if task.id == pair["id"]]
    assert task.data["what"] == "Look for: knife"


def test_where_nothing_was_published_no_server_is_started_to_collect(workspace, monkeypatch):
    started = []
    monkeypatch.setattr(annotate, "studio_client", lambda root, settings: started.append(root))
    with pytest.raises(FatalError, match="Nothing was published"):
        annotate.collect_votes(preset(), workspace.store.root)
    assert started == []


def test_both_projects_are_told_how_images_are_fetched(workspace, studio, monkeypatch):
    told = []
    for module in (publish, pair):

        def opened(client, workspace, spec):
            told.append(spec.presign)
            return open_project(client, workspace, spec)

        monkeypatch.setattr(module, "open_project", opened)
    settings = preset({"annotation": {"presign": True}})
    publish_build(settings, workspace.store.root)
    publish_build_pairs(settings, workspace.store.root)
    assert told == [True, True]


def test_nothing_is_published_while_somebody_who_opted_out_is_unknown(workspace, studio):
    settings = preset({"annotation": {"opt_outs": {"eve@example.org": ["blade"]}}})
    with pytest.raises(FatalError, match=r"eve@example\.org, who has no account"):
        publish_build(settings, workspace.store.root)
    assert studio.task_rows == []


def test_of_two_at_one_workspace_the_second_waits(workspace):
    inside, most, tracks = 0, [], threading.Lock()

    def work():
        nonlocal inside
        with annotate._alone(workspace):
            with tracks:
                inside += 1
                most.append(inside)
            time.sleep(0.05)
            with tracks:
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1]


def settings_of(prefill, test_ratio=0.5, **more):
    return preset({"annotation": {"prefill": prefill, **more}, "export": {"test_ratio": test_ratio, "seed": 3}})


def drafts(workspace, studio, settings):
    publish_build(settings, workspace.store.root)
    return {t["data"]["image_id"]: t.get("predictions") for t in studio.sent}


def test_what_will_train_has_a_draft_and_what_will_test_has_none(workspace, studio):
    sent = drafts(workspace, studio, settings_of("train"))
    splits = {name: drawn_split(name, test_ratio=0.5, seed=3) for name in ("knife", "love", "calm")}
    assert set(splits.values()) == {"train", "test"}
    for name, split in splits.items():  # an image and its edits have one family
        shown = [sent[i] is not None for i in sent if i.endswith(name)]
        assert shown == [split == "train"] * len(shown)
    assert published(workspace, WORLD).prefilled == {i for i in sent if sent[i] is not None}


def test_a_draft_says_what_the_rules_derive(workspace, studio):
    sent = drafts(workspace, studio, settings_of("train", test_ratio=0.0))
    given = {r["from_name"]: r["value"]["choices"] for r in sent["knife"][0]["result"]}
    for policy in WORLD[1:]:  # the first has no rules and is not asked
        assert given[f"{policy.id}_verdict"] == [WORLD.derive(policy, ("blade",)).verdict]


@pytest.mark.parametrize(("prefill", "drafted"), [("all", 6), ("none", 0), ("train", 0), (True, 6), (False, 0)])
def test_all_none_and_the_old_switch(workspace, studio, prefill, drafted):
    sent = drafts(workspace, studio, settings_of(prefill, test_ratio=1.0))  # everything will test
    assert (len(sent), sum(found is not None for found in sent.values())) == (6, drafted)


def test_a_control_item_never_has_a_draft(workspace, studio, tmp_path):
    (tmp_path / "known.csv").write_text("image_id,policy_id,verdict\nknife,L2,unsafe\n")
    sent = drafts(workspace, studio, settings_of("all", controls=str(tmp_path / "known.csv")))
    assert [i for i, found in sent.items() if found is None] == ["knife"]


def test_another_word_is_refused_and_the_known_ones_are_named():
    with pytest.raises(FatalError, match=r"'train', 'all' or 'none'"):
        settings_of("benchmark")


def test_attributes_are_asked_only_where_the_settings_say_so(workspace, studio):
    publish_build(preset({"annotation": {"prefill": "none"}}), workspace.store.root)
    assert len(studio.task_rows) == 6
    asking = {"annotation": {"prefill": "none", "attributes": True, "opt_outs": {"ann@example.org": ["blade"]}}}
    done = publish_build(preset(asking), workspace.store.root)
    assert (done.published, done.already_there, [p.kind for p in done.projects]) == (6, 0, ["verdict", "attributes"])
    lists = {task.data["image_id"]: task.data["attributes"] for task in studio.task_rows if "attributes" in task.data}
    assert lists.keys() == {"knife", "love", "calm", "remove-knife", "sham-knife", "remove-love"}
    # what the locator found stands first, and after an edit what the certificate still finds
    assert [lists[name][0]["alias"] for name in ("love", "remove-love")] == ["heart", "blade"]
    kept = {task.data["image_id"] for task in studio.task_rows if task.id in {f["id"] for f in studio.annotated}}
    assert kept == {"knife", "remove-knife", "sham-knife"}
    assert len(studio.annotated) == 2 * 3  # from both projects
