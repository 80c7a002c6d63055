"""Votes, third opinions, adjudication and incremental collecting against a real Label Studio."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest

from annotation.adjudicate import disputed, publish_adjudications
from annotation.agreement import labels
from annotation.collect import collect, collected_votes, deleted_annotations
from annotation.overlap import raise_overlap
from annotation.pair import PairItem, collect_pairs, edit_ratings, edited_side, pair_key, publish_pairs
from annotation.progress import project_progress
from annotation.publish import publish, published
from annotation.rulings import adjudications, collect_adjudications
from annotation.tasks import ProjectOptions
from micro.world import WORLD
from storage.errors import FatalError
from tests.annotation.people import label, pair_answers, person, some_images, verdicts

pytestmark = pytest.mark.server

OPTIONS = ProjectOptions("test")


def published_tasks(studio, policies, count, **more):
    items, truth = some_images(studio.workspace, count)
    publish(studio.client, studio.workspace, items, policies, OPTIONS, **more)
    tasks = published(studio.workspace, policies).tasks
    return [item.image_id for item in items], [tasks[item.image_id] for item in items], truth


def test_a_conflict_asks_a_third_person_and_then_a_judge(studio, own_policies):
    ids, tasks, truth = published_tasks(studio, own_policies, 3)
    ann, ben, cid = (person(studio, name) for name in ("ann", "ben", "cid"))
    for who, said in ((ann, "safe"), (ben, "unsafe")):
        label(who, tasks[0], verdicts(own_policies, L2=said, comment="sharp"))  # in conflict
        label(who, tasks[1], verdicts(own_policies, L3="unsure" if who is ben else "safe"))  # one is unsure
        label(who, tasks[2], verdicts(own_policies))  # agreed

    def matrix():
        votes = collect(studio.client, studio.workspace, own_policies, reconcile_every=0).votes
        decided = adjudications(studio.workspace, own_policies)
        return votes, labels(ids, own_policies, votes, truth, adjudications=decided)

    votes, cells = matrix()
    first = raise_overlap(studio.client, studio.workspace, own_policies, cells)
    again = raise_overlap(studio.client, studio.workspace, own_policies, cells)
    assert (first.raised, first.already, again.raised, again.already) == (2, 0, 0, 2)
    arguments = (studio.client, studio.workspace, own_policies)
    assert publish_adjudications(*arguments, disputed(cells), votes, OPTIONS).project_id is None  # too early
    with pytest.raises(FatalError, match="Nothing was put to adjudication"):
        collect_adjudications(*arguments)

    offered = set()  # what the server's own queue gives a third person
    queue = f"api/projects/{published(studio.workspace, own_policies).project_id}/next"
    for _ in range(2):
        task = cid._client_wrapper.httpx_client.request(queue, method="GET").json()
        offered.add(task["id"])
        label(cid, task["id"], verdicts(own_policies, L2="unsure" if task["id"] == tasks[0] else "safe"))
    assert offered == {tasks[0], tasks[1]}

    votes, cells = matrix()
    sent = publish_adjudications(*arguments, disputed(cells), votes, OPTIONS)
    assert (sent.published, sent.cells, sent.already_there) == (1, 1, 0)
    repeated = publish_adjudications(*arguments, disputed(cells), votes, OPTIONS)
    assert (repeated.published, repeated.already_there, repeated.project_id) == (0, 1, sent.project_id)
    assert repeated.images == sent.images
    unasked = (None, *arguments[1:])  # what was done needs no server, as long as collecting is incremental
    assert publish_adjudications(*unasked, disputed(cells), votes, OPTIONS) == repeated
    assert raise_overlap(*unasked, cells).raised == 0
    collect(*arguments)
    with pytest.raises(AttributeError):
        publish_adjudications(*unasked, disputed(cells), votes, OPTIONS)
    with pytest.raises(AttributeError):
        raise_overlap(*unasked, cells)
    (task,) = studio.client.tasks.list(project=sent.project_id, fields="all")
    assert task.data["disputed"] == ["L2"]
    assert sorted(part.split(": ", 1)[1] for part in task.data["votes_L2"].split(" · ")) == [
        "safe, “sharp”", "unsafe (R1), “sharp”", "unsure",
    ]  # fmt: skip
    assert task.data["votes_L3"] == "not in dispute"
    assert not any(name in str(task.data) for name in ("ann@", "ben@", "cid@"))

    # the judge answers a row that is not in dispute too: that counts for nothing
    label(person(studio, "dee"), task.id, verdicts(own_policies[1:3], L2="unsafe", L3="unsafe"))
    decided = collect_adjudications(*arguments)
    assert [(v.policy_id, v.verdict, v.rules) for v in decided.votes] == [("L2", "unsafe", ("L2.R1",))]
    again = collect_adjudications(*arguments, reconcile_every=0)
    assert (again.full, again.new, again.votes) == (False, 0, decided.votes)
    _, cells = matrix()
    (cell,) = [c for c in cells if c.status == "adjudicated"]
    assert (cell.image_id, cell.policy_id, cell.verdict, cell.rules) == (ids[0], "L2", "unsafe", ("L2.R1",))
    assert all(c.verdict for c in cells)


def test_an_incremental_run_sees_what_a_full_one_sees(studio, own_policies):
    _ids, tasks, _ = published_tasks(studio, own_policies, 6)
    ann, ben = person(studio, "ann"), person(studio, "ben")
    made = [label(ann, task, verdicts(own_policies)) for task in tasks[:4]]

    def both():
        quick = collect(studio.client, studio.workspace, own_policies, reconcile_every=0)
        full = collect(studio.client, studio.workspace, own_policies)
        assert (quick.votes, quick.rejected, quick.skipped) == (full.votes, full.rejected, full.skipped)
        assert (full.new, full.gone, full.full) == (0, 0, True)
        return quick

    first = both()
    assert (first.full, first.new, first.annotations) == (True, 16, 4)  # there was no cursor
    nothing = both()
    assert (nothing.full, nothing.new) == (False, 0)

    label(ben, tasks[0], verdicts(own_policies, "unsafe"))
    label(ben, tasks[5], [])  # nothing answered: refused
    ann.annotations.update(id=made[1], result=verdicts(own_policies, "unsure"))
    ann.annotations.create(id=tasks[4], result=[], was_cancelled=True)
    changed = both()
    assert (changed.full, changed.new, changed.skipped, [r.code for r in changed.rejected]) == (
        False, 4, 1, ["missing_verdict"],
    )  # fmt: skip
    assert {v.verdict for v in changed.votes if v.annotation_id == made[1]} == {"unsure"}

    studio.client.annotations.delete(id=made[2])
    gone = both()
    assert (gone.gone, gone.deleted) == (4, (made[2],))
    assert deleted_annotations(studio.workspace, own_policies) == [made[2]]
    assert collected_votes(studio.workspace, own_policies) == gone.votes
    project_id = published(studio.workspace, own_policies).project_id
    assert len(list(studio.client.projects.exports.list(id=project_id))) <= 2  # older ones were removed
    # nothing of a collect stands among people's tabs
    assert [view.data["title"] for view in studio.client.views.list(project=project_id)] == ["Tasks"]


def test_an_answer_too_fast_to_be_true_is_refused_by_setting(studio, own_policies):
    _, tasks, _ = published_tasks(studio, own_policies, 3)
    ann = person(studio, "ann")
    for task, seconds in zip(tasks, (1.5, 30.0, None), strict=True):
        label(ann, task, verdicts(own_policies), seconds)
    lenient = collect(studio.client, studio.workspace, own_policies, reconcile_every=0)
    assert (len(lenient.votes), lenient.rejected) == (12, [])
    strict = collect(studio.client, studio.workspace, own_policies, reconcile_every=0, min_duration_s=3)
    assert strict.full  # another setting judges every annotation anew
    assert (len(strict.votes), [r.code for r in strict.rejected]) == (4, ["too_fast", "too_fast"])


def test_a_draft_is_shown_where_there_is_one_and_never_counts_as_an_answer(studio, own_policies):
    """Also in a project that was made before there were drafts."""
    published_tasks(studio, own_policies, 1)
    items, truth = some_images(studio.workspace, 4)
    drafted = [*items[:2], *(replace(item, draft=truth[item.image_id]) for item in items[2:])]
    publish(studio.client, studio.workspace, drafted, own_policies, OPTIONS)
    project = published(studio.workspace, own_policies)
    assert project.prefilled == {item.image_id for item in items[2:]}

    ann, queue, offered = person(studio, "ann"), f"api/projects/{project.project_id}/next", {}
    for _ in range(4):  # what the server's own queue gives a person
        task = ann._client_wrapper.httpx_client.request(queue, method="GET").json()
        offered[task["data"]["image_id"]] = task["predictions"]
        assert task["annotations"] == []
        if len(offered) == 1:
            assert collect(studio.client, studio.workspace, own_policies).votes == []
        label(ann, task["id"], verdicts(own_policies))
    assert [image_id in project.prefilled for image_id in offered] == [False, False, True, True]
    for image_id, predictions in offered.items():
        assert len(predictions) == (image_id in project.prefilled)
    (prediction,) = offered[items[2].image_id]  # a heart, which L3 forbids and L2 does not
    given = {(r["from_name"], *r["value"]["choices"]) for r in prediction["result"]}
    said = {(f"{p.id}_verdict", WORLD.derive(p, truth[items[2].image_id]).verdict) for p in own_policies[1:]}
    assert {("L2_verdict", "safe"), *said} <= given
    assert {verdict for _, verdict in said} == {"safe", "unsafe"}
    votes = collect(studio.client, studio.workspace, own_policies).votes
    assert {vote.verdict for vote in votes} == {"safe"}  # what ann said, not what the draft said
    assert len(votes) == 16


def test_a_box_arrives_in_pixels(studio, own_policies):
    _, tasks, _ = published_tasks(studio, own_policies, 1)
    box = {
        "from_name": "boxes", "to_name": "image", "type": "rectangle", "original_width": 64, "original_height": 48,
        "value": {"x": 25.0, "y": 50.0, "width": 50.0, "height": 25.0, "rotation": 0},
    }  # fmt: skip
    label(person(studio, "ann"), tasks[0], [*verdicts(own_policies), box])
    result = collect(studio.client, studio.workspace, own_policies)
    # x 25 % of 64 = 16 to 75 % = 48; y 50 % of 48 = 24 to 75 % = 36
    assert {v.boxes for v in result.votes} == {((16, 24, 48, 36),)}
    assert result.rejected == []


def test_pairs_are_rated_without_a_word_of_which_is_the_edit(studio, workspace):
    items, _ = some_images(studio.workspace, 6)
    pairs = [PairItem(f"edit{n}", items[2 * n].blob, items[2 * n + 1].blob, "knife") for n in range(3)]
    arguments = (studio.client, studio.workspace)
    with pytest.raises(FatalError, match="No pairs"):
        collect_pairs(studio.client, workspace)
    first = publish_pairs(*arguments, pairs, WORLD, OPTIONS)
    again = publish_pairs(*arguments, pairs, WORLD, OPTIONS)
    assert ((first.published, first.already_there), (again.published, again.already_there)) == ((3, 0), (0, 3))
    tasks = {t.data["key"]: t for t in studio.client.tasks.list(project=first.project_id, fields="all")}
    assert all(set(t.data) == {"left", "right", "what", "key"} for t in tasks.values())
    ann = person(studio, "ann")
    for task in tasks.values():
        label(ann, task.id, pair_answers("left", "neither", "left"))
    result = collect_pairs(*arguments)
    assert (len(result.ratings), result.rejected) == (3, [])
    for rating in result.ratings:
        at_left = edited_side(rating.edit_id) == "left"
        assert (rating.gone, rating.original_shows, rating.damaged) == (not at_left, not at_left, False)
        assert rating.realistic == at_left
    assert edit_ratings(studio.workspace) == result.ratings


def test_ratings_are_read_incrementally_too(studio, workspace):
    items, _ = some_images(studio.workspace, 8)
    pairs = [PairItem(f"later{n}", items[2 * n].blob, items[2 * n + 1].blob, "knife") for n in range(4)]
    tasks = publish_pairs(studio.client, studio.workspace, pairs, WORLD, OPTIONS).tasks
    ann, answers = person(studio, "ann"), pair_answers("left", "neither", "both")
    made = [label(ann, tasks[pair.edit_id], answers) for pair in pairs[:3]]

    def both():
        quick = collect_pairs(studio.client, studio.workspace, reconcile_every=0)
        kept = studio.workspace.store.read(f"annotation/{pair_key()}/tasks.parquet")
        full = collect_pairs(studio.client, studio.workspace)
        assert studio.workspace.store.read(f"annotation/{pair_key()}/tasks.parquet") == kept
        assert (quick.ratings, quick.rejected, quick.skipped) == (full.ratings, full.rejected, full.skipped)
        assert full.full
        return quick

    both()  # whatever other tests left in the project
    assert not both().full
    label(ann, tasks["later3"], answers)
    ann.annotations.update(id=made[0], result=answers[:2])  # one answer is missing now
    ann.annotations.create(id=tasks["later1"], result=[], was_cancelled=True)
    studio.client.annotations.delete(id=made[2])
    changed = both()
    assert [r.edit_id for r in changed.ratings if r.edit_id.startswith("later")] == ["later1", "later3"]
    assert [r.code for r in changed.rejected if r.key == "later0"] == ["missing_answer"]
    assert edit_ratings(studio.workspace) == changed.ratings
    (row,) = [row for row in project_progress(studio.workspace, WORLD) if row.kind == "pairs"]
    assert (row.answers, row.skipped) == (len(changed.ratings), changed.skipped)
    assert changed.skipped >= 1


@pytest.mark.slow
def test_collecting_while_four_people_write_loses_and_doubles_nothing(studio, own_policies):
    _, tasks, _ = published_tasks(studio, own_policies, 20)
    clients = [person(studio, name) for name in ("ann", "ben", "cid", "dee")]
    result, collected = verdicts(own_policies), [Event() for _ in range(3)]

    def write(client):
        """All of a person's answers. Some of them wait, so that three runs at least find people at work."""
        made = []
        for number, task in enumerate(tasks):
            if number % 6 == 5:
                assert collected[number // 6].wait(300)
            made.append(label(client, task, result))
        return made

    with ThreadPoolExecutor(4) as threads:
        writing = [threads.submit(write, client) for client in clients]
        runs = 0
        while not all(future.done() for future in writing):
            part = collect(studio.client, studio.workspace, own_policies, reconcile_every=0)
            assert len({(v.annotation_id, v.policy_id) for v in part.votes}) == len(part.votes)
            assert part.gone == 0
            if runs < len(collected):
                collected[runs].set()
            runs += 1
    written = [annotation_id for future in writing for annotation_id in future.result()]
    last = collect(studio.client, studio.workspace, own_policies, reconcile_every=0)
    assert not last.full
    assert sorted(v.annotation_id for v in last.votes if v.policy_id == "L2") == sorted(written)
    assert len(last.votes) == 4 * 20 * 4
    assert runs > 2
    assert collect(studio.client, studio.workspace, own_policies).votes == last.votes
