"""The annotation room against a real Label Studio. Each test has a project of its own."""

import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from annotation import server
from annotation.accounts import add_annotator, reset_password, sign_in
from annotation.agreement import agreement, labels
from annotation.client import connect
from annotation.collect import collect, collected_votes
from annotation.publish import publish, published
from annotation.tasks import ProjectOptions
from annotation.verdicts import PolicyVerdict, to_result
from micro.people import FLAWLESS, People
from micro.simulate import simulate
from storage.errors import FatalError
from storage.parquet import read_parquet
from storage.records.rejection import Rejection
from storage.records.tables import from_table
from tests.annotation.people import some_images
from tests.label_studio import EXECUTABLE

pytestmark = pytest.mark.server

OPTIONS = ProjectOptions("test")


def image_ids_on_server(studio, project_id):
    rows = studio.client.tasks.list(project=project_id, fields="task_only", include="id,data", page_size=200)
    return sorted(row.data["image_id"] for row in rows)


def test_published_once_however_often_it_is_repeated_or_killed(studio, own_policies):
    items, _ = some_images(studio.workspace, 12)

    class KilledError(Exception):
        pass

    def kill_after_the_second_batch(done, total):
        if done >= 8:
            raise KilledError

    with pytest.raises(KilledError):
        publish(
            studio.client, studio.workspace, items, own_policies, ProjectOptions("test", batch_size=4),
            progress=kill_after_the_second_batch,
        )  # fmt: skip
    done = publish(studio.client, studio.workspace, items, own_policies, ProjectOptions("test", batch_size=4))
    assert (done.published, done.already_there) == (4, 8)
    again = publish(studio.client, studio.workspace, items, own_policies, OPTIONS)
    assert (again.published, again.already_there, again.projects[0].project_id) == (0, 12, done.projects[0].project_id)
    assert image_ids_on_server(studio, done.projects[0].project_id) == sorted(i.image_id for i in items)


def test_an_image_is_served_to_users_only(studio, own_policies):
    items, _ = some_images(studio.workspace, 1)
    publish(studio.client, studio.workspace, items, own_policies, OPTIONS)
    task = next(iter(published(studio.workspace, own_policies).tasks.values()))
    url = studio.server.url + studio.client.tasks.get(id=str(task)).data["image"]
    answer = httpx.get(url, headers={"Authorization": f"Token {studio.server.token}"})
    assert answer.content == studio.workspace.blobs.get(items[0].blob)
    assert httpx.get(url).status_code in (302, 401, 403)


def test_a_forgotten_password_is_replaced(studio):
    old = add_annotator(studio.server, "forgetful@example.org")
    new = reset_password(studio.folder, "forgetful@example.org", EXECUTABLE)
    assert sign_in(studio.server, "forgetful@example.org", new)
    with pytest.raises(FatalError, match="Was its password changed"):
        sign_in(studio.server, "forgetful@example.org", old)
    with pytest.raises(FatalError, match="not found"):
        reset_password(studio.folder, "nobody@example.org", EXECUTABLE)


def test_simulated_people_vote_and_collect_repeats_to_the_byte(studio, own_policies):
    items, truth = some_images(studio.workspace, 6)
    publish(studio.client, studio.workspace, items, own_policies, OPTIONS)
    first = simulate(studio.server, studio.workspace, own_policies, truth, people=People(misjudge=0.2, seed=1))
    assert (first.annotated, first.already_there) == (12, 0)
    again = simulate(studio.server, studio.workspace, own_policies, truth, people=People(misjudge=0.2, seed=1))
    assert (again.annotated, again.already_there) == (0, 12)

    collected = collect(studio.client, studio.workspace, own_policies)
    assert (len(collected.votes), collected.rejected, collected.new, collected.gone) == (48, [], 48, 0)
    assert {v.annotator for v in collected.votes} == {f"simulated-{n}@simulated.invalid" for n in (1, 2)}
    assert all(v.simulated for v in collected.votes)
    path = studio.folder / "annotation" / published(studio.workspace, own_policies).project_key / "votes.parquet"
    before, modified_ns = path.read_bytes(), path.stat().st_mtime_ns
    assert collect(studio.client, studio.workspace, own_policies).new == 0
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, modified_ns)
    assert collected_votes(studio.workspace, own_policies) == collected.votes

    assert agreement(collected.votes)[-1].n_items == 24
    matrix = labels([i.image_id for i in items], own_policies, collected.votes, truth)
    assert {label.status for label in matrix} == {"agreed", "conflict"}
    assert all(label.simulated == (label.policy_id != "L1") for label in matrix)  # L1 has no rules and is not asked


def test_simulated_people_lean_towards_the_draft_that_the_page_shows(studio, own_policies):
    """A wrong draft: the knife is taken for a heart, which turns L2, L3 and L5."""
    blank, drafted = some_images(studio.workspace, 2)[0]
    publish(studio.client, studio.workspace, [blank, replace(drafted, draft=("heart",))], own_policies, OPTIONS)
    truth = {item.image_id: ("blade",) for item in (blank, drafted)}
    people = replace(FLAWLESS, anchoring=1.0)
    simulate(studio.server, studio.workspace, own_policies, truth, annotators=1, people=people)
    votes = collect(studio.client, studio.workspace, own_policies).votes
    said = {(v.image_id, v.policy_id): v.verdict for v in votes}
    for policy in own_policies[1:]:
        assert said[blank.image_id, policy.id] == own_policies.derive(policy, ("blade",)).verdict
        assert said[drafted.image_id, policy.id] == own_policies.derive(policy, ("heart",)).verdict


def test_what_cannot_be_believed_is_quarantined_and_leaves_when_corrected(studio, own_policies):
    items, _ = some_images(studio.workspace, 2)
    key = publish(studio.client, studio.workspace, items, own_policies, OPTIONS).projects[0].project_key
    task_id = published(studio.workspace, own_policies).tasks[items[0].image_id]
    good = to_result([PolicyVerdict(p.id, "safe") for p in own_policies[1:]])
    bad = [r | {"value": {"choices": ["bogus"]}} if r["from_name"] == "L3_verdict" else r for r in good]
    posted = studio.client.annotations.create(id=task_id, result=bad, was_cancelled=False)

    result = collect(studio.client, studio.workspace, own_policies)
    assert (result.votes, [r.code for r in result.rejected]) == ([], ["not_in_config"])
    quarantine = f"quarantine/collect/{key}.parquet"
    stored = from_table(read_parquet(studio.workspace.store.read(quarantine)), Rejection)
    assert stored == result.rejected
    assert stored[0].key == items[0].image_id
    before = studio.workspace.store.read(quarantine)
    collect(studio.client, studio.workspace, own_policies)
    assert studio.workspace.store.read(quarantine) == before

    studio.client.annotations.update(id=posted.id, result=good)
    assert len(collect(studio.client, studio.workspace, own_policies).votes) == 4
    assert read_parquet(studio.workspace.store.read(quarantine)).num_rows == 0
    studio.client.annotations.delete(id=posted.id)
    assert collect(studio.client, studio.workspace, own_policies).gone == 4


def test_an_answer_changed_by_somebody_else_is_refused(studio, own_policies):
    items, truth = some_images(studio.workspace, 1)
    publish(studio.client, studio.workspace, items, own_policies, OPTIONS)
    simulate(studio.server, studio.workspace, own_policies, truth, annotators=1, people=FLAWLESS)
    (annotation_id,) = {v.annotation_id for v in collect(studio.client, studio.workspace, own_policies).votes}
    other = to_result([PolicyVerdict(p.id, "unsure") for p in own_policies[1:]])
    studio.client.annotations.update(id=annotation_id, result=other)
    result = collect(studio.client, studio.workspace, own_policies)
    assert [r.code for r in result.rejected] == ["changed_by_another"]


def test_a_project_that_is_gone_keeps_the_votes(studio, own_policies):
    items, truth = some_images(studio.workspace, 1)
    project_id = publish(studio.client, studio.workspace, items, own_policies, OPTIONS).projects[0].project_id
    simulate(studio.server, studio.workspace, own_policies, truth, annotators=1)
    votes = collect(studio.client, studio.workspace, own_policies).votes
    studio.client.projects.delete(id=project_id)
    with pytest.raises(FatalError, match="not on this server"):
        collect(studio.client, studio.workspace, own_policies)
    assert collected_votes(studio.workspace, own_policies) == votes


def test_a_running_server_is_reused_and_a_wrong_token_refused(studio):
    assert server.status(studio.folder) == studio.server
    started = time.monotonic()
    assert server.start(studio.folder, port=1, executable="/nowhere") == studio.server
    assert time.monotonic() - started < 5
    with pytest.raises(FatalError, match="refuses the token"):
        connect(studio.server.url, "0" * 40)


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs Linux's /proc")
def test_it_listens_on_loopback_only(studio):
    port = studio.server.url.rsplit(":", 1)[1]
    sockets = Path("/proc/net/tcp").read_text().splitlines()
    listening = [line.split()[1] for line in sockets if f":{int(port):04X} " in line and " 0A " in line]
    assert listening == [f"0100007F:{int(port):04X}"]  # 127.0.0.1


def test_a_port_in_use_is_a_plain_sentence(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(FatalError, match=f"Port {port} is in use"):
            server.start(tmp_path, port=port, executable=os.sys.executable)


def test_a_server_that_dies_says_why(tmp_path, studio):
    program = tmp_path / "label-studio"
    program.write_text("#!/bin/sh\necho no such luck\nexit 1\n")
    program.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(FatalError, match="no such luck"):
        server.start(tmp_path / "workspace", port=port, executable=program)


def test_an_annotator_gets_an_account_without_a_browser(studio):
    password = add_annotator(studio.server, "new@example.org")
    token = sign_in(studio.server, "new@example.org", password)
    assert connect(studio.server.url, token).users.whoami().email == "new@example.org"
    with pytest.raises(FatalError, match="has an account already"):
        add_annotator(studio.server, "new@example.org")
    with pytest.raises(FatalError, match="did not sign in"):
        sign_in(studio.server, "new@example.org", "another password")
    with pytest.raises(FatalError, match="Is the address right"):
        add_annotator(studio.server, "no address")
