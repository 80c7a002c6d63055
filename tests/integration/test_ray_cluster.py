"""The Ray engine on a real cluster of two nodes, in a network namespace that has only loopback."""

import json
import os
import secrets
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed: install guardset[ray]")

from storage.workspace import Workspace
from tests.whole_builds import exported, finish, guardset, left_alone, vote

pytestmark = [pytest.mark.server, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]


def _may_unshare() -> bool:
    return bool(shutil.which("unshare") and shutil.which("ip")) and (
        subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0
    )


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict:
    if not _may_unshare():
        pytest.skip("network namespaces are not allowed here, and Ray would listen on every interface")
    folder = tmp_path_factory.mktemp("ray")
    shutil.copytree(left_alone(tmp_path_factory) / "in", folder / "in")
    scenarios = "poison,no_room,one_gpu,killed_driver,whole_build,killed_actor_and_node"
    command = ["unshare", "-n", sys.executable, "-m", "tests.integration.ray_scenarios", str(folder), scenarios]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = os.environ | token | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return {"folder": folder, **json.loads(done.stdout.splitlines()[-1])}


def test_a_killed_worker_a_silent_one_and_a_lost_node_cost_only_their_shards(results):
    found = results["killed_actor_and_node"]
    assert found["errors"] == []
    assert found["fates"] == {"ran": 16}
    assert found["nodes"] == 2
    # One shard killed its worker, one hung, and the lost node had at most two shards in hand (perhaps the hung one).
    assert 2 <= found["repeated"] <= 4
    assert found["loads"] <= 3 + found["repeated"]  # three workers, and one new one for each that was lost


def test_the_output_has_the_local_pools_bytes(results):
    assert results["killed_actor_and_node"]["same_bytes"]
    assert results["killed_actor_and_node"]["tables"] == 32  # an input and a result for each shard


def test_a_poison_shard_stops_after_three_workers_and_the_others_are_done(results):
    found = results["poison"]
    assert found["fates"] == {"ran": 5}
    assert found["attempts"] == 3
    (error,) = found["errors"]
    assert "lost 3 workers to one shard" in error


def test_a_killed_driver_loses_only_what_was_in_its_workers_hands(results):
    found = results["killed_driver"]
    assert found["errors"] == []
    assert found["fates"]["looked up"] >= found["done_before"] >= 6
    assert sum(found["fates"].values()) == 14
    assert found["repeated"] <= 2  # two workers


def test_a_stage_that_fits_on_no_node_is_a_plain_sentence(results):
    (error,) = results["no_room"]["errors"]
    assert "No node of the Ray cluster has 1 CPU cores and 8 GPUs" in error


def test_stages_pass_on_the_only_gpu(results):
    assert results["one_gpu"] == {name: {"errors": [], "fates": {"ran": 6}} for name in ("accident", "another")}


def test_a_whole_build_on_the_cluster_exports_the_bytes_of_one_without_it(results, tmp_path_factory, tmp_path):
    assert "looked up" in results["whole_build"]["output"]  # what the killed build had done
    clustered, alone = results["folder"] / "whole_build" / "ws", left_alone(tmp_path_factory) / "work"
    vote(Workspace.open(clustered))
    finish(guardset("export", "--workspace", str(clustered), home=tmp_path / "prefect"))
    assert exported(clustered) == exported(alone) != {}
