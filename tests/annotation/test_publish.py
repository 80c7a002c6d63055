"""Publishing against a stand-in for the server that fails where the real one does."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace as Row

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotation.config import label_config
from annotation.publish import PublishItem, derived_prediction, presentation_order, publish, published
from annotation.tasks import ProjectOptions, check_page, image_url
from storage.errors import FatalError, TransientError
from storage.s3 import S3Store
from storage.workspace import Workspace
from tests.annotation.fake_studio import FakeStudio


@pytest.fixture
def client():
    return FakeStudio()


ITEMS = [PublishItem(f"image{n}", f"{n:02d}blob", f"family{n // 2}") for n in range(20)]


def run(client, workspace, policies, items=ITEMS, **more):
    return publish(client, workspace, items, policies, ProjectOptions("test", batch_size=6), **more)


def test_each_image_once_and_nothing_new_the_second_time(client, workspace, policies):
    seen = []
    first = run(client, workspace, policies, progress=lambda done, total: seen.append((done, total)))
    assert (first.published, first.already_there) == (20, 0)
    assert seen == [(6, 20), (12, 20), (18, 20), (20, 20)]
    remembered = workspace.store.read(f"annotation/{first.projects[0].project_key}/project.json")
    again = run(client, workspace, policies)
    assert (again.published, again.already_there, client.imports) == (0, 20, 4)
    assert sorted(client.image_ids()) == sorted(i.image_id for i in ITEMS)
    assert workspace.store.read(f"annotation/{first.projects[0].project_key}/project.json") == remembered
    assert len(client.project_rows) == len(client.storages) == 1


def test_new_images_join_the_same_project(client, workspace, policies):
    run(client, workspace, policies, ITEMS[:5])
    more = run(client, workspace, policies)
    assert (more.published, more.already_there) == (15, 5)
    assert len(published(workspace, policies).tasks) == 20


@pytest.mark.parametrize("landed", [True, False])
def test_killed_between_batches_and_repeated(client, workspace, policies, landed):
    def killed(number, after):
        if number == 3 and after is landed:
            raise KeyboardInterrupt

    client.fail = killed
    with pytest.raises(KeyboardInterrupt):
        run(client, workspace, policies)
    assert len(client.task_rows) == (18 if landed else 12)
    client.fail = lambda number, after: None
    run(client, workspace, policies)
    assert sorted(client.image_ids()) == sorted(i.image_id for i in ITEMS)


@pytest.mark.parametrize("landed", [True, False])
def test_a_time_out_is_retried_after_another_look(client, workspace, policies, landed):
    def times_out(number, after):
        if number == 2 and after is landed:
            raise httpx.ReadTimeout("too slow")

    client.fail = times_out
    assert run(client, workspace, policies).published == 20
    assert sorted(client.image_ids()) == sorted(i.image_id for i in ITEMS)


def test_an_import_that_lands_after_its_repetition_leaves_no_double(client, workspace, policies):
    run(client, workspace, policies, ITEMS[:3])
    late = client.task_rows[1]
    client.task_rows.append(Row(id=99, data=late.data, total_annotations=0))
    run(client, workspace, policies)
    assert sorted(client.image_ids()) == sorted(i.image_id for i in ITEMS)
    assert published(workspace, policies).tasks[late.data["image_id"]] == late.id


def test_a_double_that_somebody_labelled_stays(client, workspace, policies):
    run(client, workspace, policies, ITEMS[:3])
    client.task_rows.append(Row(id=99, data=client.task_rows[0].data, total_annotations=1))
    run(client, workspace, policies, ITEMS[:3])
    assert 99 in [t.id for t in client.task_rows]


def test_a_server_that_stays_silent(client, workspace, policies):
    def silent(number, after):
        raise httpx.ConnectError("gone")

    client.fail = silent
    with pytest.raises(TransientError, match="importing tasks"):
        run(client, workspace, policies)


def test_the_same_image_with_other_pixels_is_refused(client, workspace, policies):
    run(client, workspace, policies, ITEMS[:3])
    with pytest.raises(FatalError, match="other pixels"):
        run(client, workspace, policies, [PublishItem(ITEMS[0].image_id, "another")])


def rows_on(client, number):
    """The policies that a project's page asks."""
    page = client.project_rows[number - 1].label_config
    return [p for p in ("L1", "L2", "L3", "L4", "L5", "L6") if f'"{p}_verdict"' in page]


def images_in(client, number):
    return sorted(t.data["image_id"] for t in client.task_rows if t.project == number)


def with_sixth(policies):
    sixth = policies[2].model_copy(update={"id": "L6", "name": "Sixth"})
    return replace(policies, policies=(*policies, sixth))


def test_a_new_policy_is_asked_alone_and_a_new_image_under_all(client, workspace, policies):
    run(client, workspace, policies, ITEMS[:5])
    more = run(client, workspace, with_sixth(policies), ITEMS[:8])
    assert (more.published, more.already_there, len(more.projects)) == (8, 0, 3)
    asked = {n: (rows_on(client, n), images_in(client, n)) for n in (1, 2, 3)}
    ids = [item.image_id for item in ITEMS[:8]]
    assert asked == {
        1: (["L2", "L3", "L4", "L5"], ids[:5]),
        2: (["L6"], ids[:5]),
        3: (["L2", "L3", "L4", "L5", "L6"], ids[5:]),
    }
    again = run(client, workspace, with_sixth(policies), ITEMS[:8])
    assert (again.published, again.already_there, len(client.task_rows)) == (0, 8, 13)


def test_a_policy_removed_or_brought_back_asks_nothing(client, workspace, policies):
    run(client, workspace, policies)
    fewer = run(client, workspace, replace(policies, policies=policies[:4]))
    assert (fewer.published, fewer.already_there) == (0, 20)
    run(client, workspace, policies)
    assert (len(client.project_rows), len(client.task_rows)) == (1, 20)


@pytest.mark.parametrize(("keep", "projects"), [(False, 2), (True, 1)])
def test_other_words_are_asked_anew_unless_the_config_says_otherwise(client, workspace, policies, keep, projects):
    def ask(second):
        some = replace(policies, policies=(policies[0], second, *policies[2:]))
        publish(client, workspace, ITEMS[:5], some, ProjectOptions("test", keep_reworded=keep))

    ask(policies[1])
    reworded = policies[1].model_copy(update={"preamble": "In other words."})
    ask(reworded)
    assert len(client.project_rows) == projects
    ask(reworded.model_copy(update={"rules": reworded.rules[:1]}))
    assert (len(client.project_rows), rows_on(client, projects + 1)) == (projects + 1, ["L2"])


def test_a_policy_that_calls_everything_safe_is_not_asked(client, workspace, policies):
    assert policies[0].asks_nothing
    assert list(run(client, workspace, policies, ITEMS[:5]).projects[0].policies) == ["L2", "L3", "L4", "L5"]
    alone = Workspace.open(Path(workspace.store.root) / "alone")
    assert run(client, alone, replace(policies, policies=policies[:1]), ITEMS[:5]).projects == ()
    assert len(client.project_rows) == 1


def test_killed_while_only_a_new_policy_is_asked(client, workspace, policies):
    run(client, workspace, policies)

    def killed(number, after):
        if number == 6 and after:
            raise KeyboardInterrupt

    client.fail = killed
    with pytest.raises(KeyboardInterrupt):
        run(client, workspace, with_sixth(policies))
    client.fail = lambda number, after: None
    run(client, workspace, with_sixth(policies))
    assert (images_in(client, 1), images_in(client, 2)) == (sorted(i.image_id for i in ITEMS),) * 2


def test_what_a_project_asked_that_is_gone_from_the_server_is_asked_again(client, workspace, policies):
    run(client, workspace, policies)
    sixth = with_sixth(policies)
    run(client, workspace, sixth)
    client.project_rows[0].title = "deleted"
    run(client, workspace, sixth)
    assert rows_on(client, 3) == ["L2", "L3", "L4", "L5"]  # L6 was asked and is there, L1 calls everything safe
    assert images_in(client, 3) == sorted(i.image_id for i in ITEMS)


def test_a_task_says_nothing_about_where_its_image_comes_from(client, workspace, policies):
    run(client, workspace, policies)
    assert {key for t in client.task_rows for key in t.data} == {"image", "image_id", "content_hash"}


def test_nothing_published_is_a_sentence(workspace, policies):
    with pytest.raises(FatalError, match="Nothing was published"):
        published(workspace, policies)


def test_where_the_server_finds_images(workspace, monkeypatch):
    assert image_url(workspace, "abcd") == "/data/local-files/?d=blobs/ab/abcd"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert image_url(Workspace(S3Store("s3://bucket/some/prefix")), "abcd") == "s3://bucket/some/prefix/blobs/ab/abcd"


@given(st.lists(st.tuples(st.integers(0, 999), st.integers(0, 30)), unique_by=lambda p: p[0]), st.text())
def test_the_order_is_a_fixed_permutation_with_families_apart(pairs, key):
    items = [PublishItem(f"i{n}", f"b{n}", f"f{family}") for n, family in pairs]
    order = presentation_order(items, key)
    assert sorted(order, key=lambda i: i.image_id) == sorted(items, key=lambda i: i.image_id)
    assert order == presentation_order(reversed(items), key)


def test_an_image_and_its_edit_are_not_neighbours():
    families = [item.family_id for item in presentation_order(ITEMS, "key")]
    assert all(a != b for a, b in pairwise(families))


def test_drafts_come_last(policies):
    order = presentation_order([replace(item, draft=()) if n % 3 else item for n, item in enumerate(ITEMS)], "key")
    assert [item.draft for item in order] == [None] * 7 + [()] * 13  # 0, 3, ... 18


def test_drafts_follow_the_rules_and_leave_open_what_they_leave_open(client, workspace, policies):
    run(client, workspace, policies, [replace(ITEMS[0], draft=("blade",)), replace(ITEMS[1], draft=("unheard of",))])
    sent = {t["data"]["image_id"]: t["predictions"][0]["result"] for t in client.sent}
    blade = {r["from_name"]: r["value"]["choices"] for r in sent[ITEMS[0].image_id]}
    assert (blade["L2_verdict"], blade["L2_rules"]) == (["unsafe"], ["L2.R1"])
    assert "L1_verdict" not in blade  # it has no rules and is not asked
    # an attribute that no rule knows decides nothing
    assert sent[ITEMS[1].image_id] == []
    assert [p.show_collab_predictions for p in client.project_rows] == [True]


def test_which_images_had_a_draft_is_never_forgotten(client, workspace, policies):
    run(client, workspace, policies, ITEMS[:2])
    assert published(workspace, policies).prefilled == frozenset()
    assert [p.show_collab_predictions for p in client.project_rows] == [False]

    drafted = [replace(item, draft=("blade",)) for item in ITEMS[:4]]
    again = run(client, workspace, policies, drafted)
    assert (again.published, again.already_there) == (2, 2)  # what is there stays as it is
    first, late = {i.image_id for i in ITEMS[:2]}, frozenset(i.image_id for i in ITEMS[2:4])
    assert {t["data"]["image_id"] for t in client.sent if "predictions" in t} == late
    assert published(workspace, policies).prefilled == late
    assert [p.show_collab_predictions for p in client.project_rows] == [True]  # one project, and it shows them now

    client.task_rows = [task for task in client.task_rows if task.data["image_id"] in first]  # gone from the server
    run(client, workspace, policies, ITEMS[:4])
    assert published(workspace, policies).prefilled == late


def test_a_choice_that_the_page_does_not_have_never_leaves(policies):
    page = label_config(policies)
    good = {"data": {"image": "x"}, "predictions": [derived_prediction(policies, ("blade",))]}
    check_page(page, [good])
    bogus = [{**r, "value": {"choices": ["bogus"]}} for r in good["predictions"][0]["result"][:1]]
    with pytest.raises(FatalError, match="does not fit its labelling page"):
        check_page(page, [{**good, "predictions": [{"result": bogus}]}])
    with pytest.raises(FatalError, match="image is missing"):
        check_page(page, [{"data": {}}])
    with pytest.raises(FatalError, match="not one that Label Studio accepts"):
        check_page(page.replace('toName="image"', 'toName="nothing"'), [])
