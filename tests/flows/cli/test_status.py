"""What status shows, from a workspace whose votes are written by hand: no network and no server."""

import io
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from rich.console import Console

import micro
from annotation.adjudicate import adjudication_key
from annotation.attribute_page import questions
from annotation.config import project_key
from annotation.pair import pair_key
from annotation.projects import Project, remember
from annotation.vote_store import State, sorted_votes, store_votes, table_of, write_state
from flows.cli.status import describe
from flows.export import dataset_of
from flows.labels import annotation_summary, labelled
from flows.outcome import read_outcome
from micro.preset import preset
from micro.world import WORLD
from storage.parquet import parquet_bytes
from storage.records.annotation import EditRating, Vote
from storage.records.tables import to_table
from tests.flows.finished_build import finish

ANN, BEN, CID = "ann@example.org", "ben@example.org", "cid@simulated.invalid"
SETTINGS = preset({"annotation": {"resamples": 50}})


def vote(number, image_id, policy_id, verdict, annotator):
    rules = (f"{policy_id}.R1",) if verdict == "unsafe" and policy_id != "L1" else ()
    return Vote(
        image_id, policy_id, verdict, rules, annotator, annotator.endswith("@simulated.invalid"), 12.0, "", 1,
        number, number, "2030-01-01",
    )  # fmt: skip


def rating(edit_id, annotator, *, gone):
    return EditRating(edit_id, gone, True, False, True, annotator, False, 5.0, "", 1, "2030-01-01")


@pytest.fixture
def published(workspace):
    """Two people judged `knife` and its edit alike, disagree on `calm`; the edited knife is called unsafe."""
    finish(workspace)
    policies = WORLD
    key = project_key(policies)
    said = {"knife": ("unsafe", "unsafe"), "remove-knife": ("unsafe", "unsafe"), "calm": ("safe", "unsafe")}
    votes = [
        vote(number, image_id, "L2", verdict, who)
        for number, (image_id, verdicts) in enumerate(said.items(), start=1)
        for verdict, who in zip(verdicts, (ANN, BEN), strict=True)
    ]
    votes.append(vote(9, "love", "L3", "safe", CID))
    tasks = {name: n for n, name in enumerate(("knife", "remove-knife", "sham-knife", "love", "remove-love", "calm"))}
    hashes = {policy.id: policy.content_hash for policy in policies}
    project = {"project_id": 1, "project_key": key, "title": "guardset", "tasks": tasks, "policies": hashes}
    workspace.write_json(f"annotation/{key}/project.json", project)
    workspace.write_json(
        f"annotation/{adjudication_key(policies)}/project.json",
        {"project_id": 2, "project_key": adjudication_key(policies), "title": "judge", "cells": 3},
    )
    workspace.write_json(
        f"annotation/{pair_key()}/project.json",
        {"project_id": 3, "project_key": pair_key(), "title": "pairs", "edits": {"p": "edit-remove-love"}},
    )
    ratings = [rating("edit-remove-love", who, gone=False) for who in (ANN, BEN)]
    workspace.store.write(f"annotation/{pair_key()}/ratings.parquet", parquet_bytes(to_table(ratings, EditRating)))
    store_votes(workspace, key, sorted_votes(table_of(votes)), [])
    write_state(workspace, key, State(cursor="2030-01-01", skipped=frozenset({7}), deleted=frozenset({8})))
    return workspace


@pytest.fixture
def summary(published):
    outcome = read_outcome(published)
    return annotation_summary(SETTINGS, published, outcome, labelled(SETTINGS, published, outcome))


def test_progress_of_each_project(summary):
    rows = [(p.kind, p.items, p.done, p.answers, p.skipped, p.refused) for p in summary.projects]
    assert rows == [("verdicts", 6, 3, 4, 1, 0), ("adjudication", 3, 0, 0, 0, 0), ("pairs", 1, 1, 2, 0, 0)]
    assert [a.annotator for a in summary.annotators] == [ANN, BEN, CID]
    assert (summary.deleted_annotations, summary.simulated) == (1, True)


def test_the_matrix_and_what_is_missing(summary):
    rows = {row.policy_id: row for row in summary.matrix}
    assert (rows["L2"].safe, rows["L2"].unsafe, rows["L2"].conflict, rows["L2"].missing) == (0, 2, 1, 3)
    assert rows["L2"].rule_conflict == 1  # the edited knife: by the rules it is safe
    # five policies x six images: L2 has three images with two votes, L3 one image with one vote
    assert {m.gap: m.cells for m in summary.missing} == {"nobody": 30 - 4, "more_people": 1, "third_opinion": 1}
    assert [d.image_id for d in summary.disputed] == ["calm"]


def test_agreement_has_intervals_over_families(summary):
    by_policy = {row.policy_id: row for row in summary.agreement}
    # of three images two people agree on two
    assert (by_policy["L2"].n_items, by_policy["L2"].raw) == (3, pytest.approx(2 / 3))
    # the two images of the knife are one family, `calm` is the other
    assert {row.policy_id: row.n_families for row in summary.intervals}["L2"] == 2


def test_edits_are_held_against_their_certificates(summary):
    flips = {row.policy_id: row for row in summary.flips}
    assert (flips["L2"].predicted, flips["L2"].refuted) == (1, 1)
    reports = {report.edit_id: report for report in summary.against_certificates}
    assert reports["edit-remove-knife"].doubts == ("not_turned",)
    assert reports["edit-remove-love"].doubts == ("not_gone",)
    assert "edit-sham-knife" not in reports


def test_a_report_gets_plain_values(summary):
    assert json.loads(json.dumps(asdict(summary)))["projects"][0]["kind"] == "verdicts"


def shown(workspace):
    console = Console(width=200, file=io.StringIO(), record=True)
    for part in describe(SETTINGS, workspace.store.root):
        console.print(part, highlight=False)
    return console.export_text()


def test_each_annotator_has_progress_speed_and_agreement(published):
    lines = {line.split()[0]: " ".join(line.split()[1:]) for line in shown(published).splitlines() if "@" in line}
    # of three images that both saw, one differs; 36 seconds for three images are 300 an hour
    assert lines[ANN] == "3 1 300 12 s 0% 67% of 3"
    assert lines[CID].endswith("nobody else yet")


def test_a_terminal_shows_all_of_it(published):
    text = shown(published)
    for words in (
        "exact_duplicate", "adjudication", ANN, "Some of these votes are simulated", "0.67", "a first vote",
        "calm.png", "knife.png", "1 annotations were collected once", "1 edits rated by 2 people",
    ):  # fmt: skip
        assert words in text, words


def test_a_build_that_nobody_labelled_yet(workspace):
    finish(workspace)
    text = shown(workspace)
    assert "a first vote" in text
    assert not any(title in text for title in ("Agreement", "Annotators", "Projects", "disputed"))


def test_a_changed_policy_set_says_what_stands_and_what_is_missing(published, tmp_path):
    folder = tmp_path / "policies"
    shutil.copytree(Path(micro.__file__).parent / "policies", folder)
    shutil.rmtree(folder / "paraphrases")
    (folder / "L3.yaml").rename(folder / "L6.yaml")
    text = (folder / "L6.yaml").read_text(encoding="utf-8")
    (folder / "L6.yaml").write_text(text.replace("id: L3", "id: L6", 1), encoding="utf-8")
    settings = preset({"annotation": {"resamples": 0}, "policies": str(folder)})
    console = Console(width=200, file=io.StringIO(), record=True)
    for part in describe(settings, published.store.root):
        console.print(part, highlight=False)
    text = console.export_text()
    lines = {tuple(line.split()) for line in text.replace("│", " ").splitlines()}
    assert {("L2", "6", "6", "0", "0"), ("L6", "0", "0", "0", "6")} <= lines  # L2: three images, two people
    assert "What nobody was asked yet goes to people with `guardset publish`" in text
    hashes = {policy.id: policy.content_hash for policy in WORLD}
    assert f"not used, since no policy has that id and content now: L3 {hashes['L3'][:8]} (1)" in text


def confirm(workspace, seen):
    """Attribute votes of two people who agree; `seen` maps images to what is visible."""
    asked = questions(WORLD.vocabulary)
    hashes = {one.id: one.content_hash for one in asked}
    tasks = {image_id: n for n, image_id in enumerate(seen)}
    remember(workspace, Project(4, "a" * 64, "attributes", "attributes", tasks, policies=hashes, page="<View/>"))
    votes = [
        replace(vote(number, image_id, one.id, "safe", who), verdict="unsafe" if one.id in names else "safe",
                policy_hash=one.content_hash, rules=())
        for number, (image_id, names) in enumerate(seen.items()) for one in asked for who in (ANN, BEN)
    ]  # fmt: skip
    store_votes(workspace, "a" * 64, sorted_votes(table_of(votes)), [])


def test_labels_by_attributes_are_held_against_verdicts(published):
    confirm(published, {"knife": ["blade"], "remove-knife": [], "calm": ["heart"]})
    off = shown(published)
    assert "Labels by attributes" not in off
    settings = preset({"annotation": {"resamples": 50, "attributes": True}})
    console = Console(width=200, file=io.StringIO(), record=True)
    for part in describe(settings, published.store.root):
        console.print(part, highlight=False)
    text = console.export_text()
    lines = {tuple(line.split()) for line in text.replace("│", " ").splitlines()}
    # L2: knife agrees; its edit is unsafe to people and shows nothing; on `calm` people are divided, so nothing is said
    assert ("L2", "0", "2", "50%", "1", "0", "0") in lines  # one family: no interval
    assert ("L5", "3", "0", "not", "measured", "0", "0", "0") in lines
    assert "tried on simulated people only" in " ".join(text.split())
    data = dataset_of(settings, published)
    assert set(data.confirmed.evidence) == {"knife", "remove-knife", "calm"}
    assert dataset_of(SETTINGS, published).confirmed.evidence == {}


def test_an_image_that_may_show_a_minor_leaves_the_export_whatever_the_settings(published, tmp_path):
    folder = tmp_path / "policies"
    shutil.copytree(Path(micro.__file__).parent / "policies", folder)
    text = (folder / "vocabulary.yaml").read_text(encoding="utf-8")
    with_child = text.replace("{id: plant, noun: plant,", "{id: plant, noun: seedling, minor: true,")
    (folder / "vocabulary.yaml").write_text(with_child, encoding="utf-8")
    confirm(published, {"knife": ["plant", "blade"], "calm": ["plant"]})
    settings = preset({"annotation": {"resamples": 0}, "policies": str(folder)})
    data = dataset_of(settings, published)
    assert {image.original_id for image in data.images.values()} == {"love", "calm"}
    assert data.dropped["image_minor"] == 1
    console = Console(width=300, file=io.StringIO(), record=True)
    for part in describe(settings, published.store.root):
        console.print(part, highlight=False)
    assert "1 images may show a minor beside something sensitive" in console.export_text()
