"""Runs inside a network namespace that has only loopback: `python -m tests.integration.ray_scenarios FOLDER SCENARIO`.

Prints one JSON object. The namespace keeps Ray, which listens on every interface, to this machine.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from flows.engine.pool import LocalPool
from flows.engine.ray_pool import RayPool
from flows.engine.settings import ActorSettings, RaySettings
from storage.errors import FatalError
from storage.records.rejection import Rejection
from storage.records.tables import to_table
from storage.stage import ReadyStage
from storage.workspace import Workspace
from tests.configs import write_config
from tests.integration.ray_stage import Accident
from tests.toy_stages import toy_stage
from tests.whole_builds import SMALL_SHARDS, finish, guardset, kill_when_further

SECONDS = 0.2


def accident(folder: Path, name: str = "accident", seconds: float = SECONDS) -> ReadyStage:
    return toy_stage(name, Accident, str(folder / "notes"), seconds)


def settings(address: str, workers: int, **more: float) -> RaySettings:
    return RaySettings(address=address, stages={"accident": ActorSettings(workers=workers)}, **more)


def run_all(pool, workspace: Workspace, stage: ReadyStage, details: list[str]) -> tuple[list[str], Counter]:
    """Every shard (two rows each) through the pool; the fatal errors, and how many were looked up or run."""
    fates: Counter = Counter()
    errors: list[str] = []

    def one(number: int) -> None:
        rows = [Rejection(f"{number}/0", "", "", ""), Rejection(f"{number}/1", "", details[number], "")]
        input_hash = workspace.ledger.put_input(stage.name, to_table(rows, Rejection))
        try:
            outcome = pool.run(workspace, stage, input_hash)
        except FatalError as error:
            errors.append(str(error))
        else:
            fates["looked up" if outcome.looked_up else "ran"] += 1

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(one, range(len(details))))
    return errors, fates


def notes(folder: Path, kind: str) -> list[str]:
    return [p.read_text() for p in (folder / "notes" / kind).glob("*")]


def tables(workspace: Workspace) -> dict[str, str]:
    return {key: workspace.store.read(key).hex() for key in workspace.store.keys("tables/")}


def wait_until(condition, timeout_s: float = 120) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def killed_actor_and_node(folder: Path, cluster) -> dict:
    second = cluster.nodes["second"]
    workspace, stage = Workspace.open(folder / "ws"), accident(folder)
    details = ["die once" if number == 3 else "hang once" if number == 5 else "" for number in range(16)]

    def strike() -> None:
        wait_until(lambda: sum(second.node_id in run for run in notes(folder, "runs")) >= 2)
        cluster.remove_node(second, allow_graceful=False)

    striker = threading.Thread(target=strike)
    striker.start()
    with RayPool(settings(cluster.address, 3, shard_timeout_s=12)) as pool:
        errors, fates = run_all(pool, workspace, stage, details)
    striker.join()
    calm = Workspace.open(folder / "calm")
    run_all(LocalPool(), calm, accident(folder, seconds=0.0), details)
    runs = Counter(run.split()[0] for run in notes(folder, "runs") if not run.endswith("here"))
    return {
        "errors": errors,
        "fates": fates,
        "same_bytes": tables(workspace) == tables(calm),
        "tables": len(tables(workspace)),
        "repeated": sum(runs.values()) - len(runs),
        "loads": len(notes(folder, "loads")) - 1,  # the local pool's own
        "nodes": len({run.split()[1] for run in notes(folder, "runs")} - {"here"}),
    }


def poison(folder: Path, cluster) -> dict:
    workspace, stage = Workspace.open(folder / "ws"), accident(folder)
    details = ["die" if number == 2 else "" for number in range(6)]
    with RayPool(settings(cluster.address, 1)) as pool:
        errors, fates = run_all(pool, workspace, stage, details)
    attempts = sum(run.startswith("2/0 ") for run in notes(folder, "runs"))
    return {"errors": errors, "fates": fates, "attempts": attempts}


def killed_driver(folder: Path, cluster) -> dict:
    command = [sys.executable, "-m", "tests.integration.ray_scenarios", str(folder), "drive", cluster.address]
    first = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    workspace = Workspace.open(folder / "ws")

    def finished() -> int:
        return sum(1 for _ in workspace.store.keys("tables/accident/"))

    wait_until(lambda: finished() >= 6)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    done = finished()
    second = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    runs = Counter(run.split()[0] for run in notes(folder, "runs"))
    return {"done_before": done, "repeated": sum(runs.values()) - len(runs), **second}


def drive(folder: Path, address: str) -> dict:
    with RayPool(settings(address, 2)) as pool:
        errors, fates = run_all(pool, Workspace.open(folder / "ws"), accident(folder), [""] * 14)
    return {"errors": errors, "fates": fates}


def no_room(folder: Path, cluster) -> dict:
    settings = RaySettings(address=cluster.address, stages={"accident": ActorSettings(gpus=8)})
    with RayPool(settings) as pool:
        errors, _ = run_all(pool, Workspace.open(folder / "ws"), accident(folder), [""])
    return {"errors": errors}


def one_gpu(folder: Path, cluster) -> dict:
    """Two stages at once whose workers want the cluster's only GPU: the second gets it when the first is finished."""
    workspace, stages = Workspace.open(folder / "ws"), (accident(folder), accident(folder, "another"))
    wanted = {stage.name: ActorSettings(gpus=1) for stage in stages}
    found = {}
    with RayPool(RaySettings(address=cluster.address, stages=wanted, start_timeout_s=45)) as pool:

        def branch(stage: ReadyStage) -> None:
            errors, fates = run_all(pool, workspace, stage, [""] * 6)
            found[stage.name] = {"errors": errors, "fates": fates}
            pool.finish(stage.name)

        with ThreadPoolExecutor(2) as branches:
            list(branches.map(branch, stages))
    return found


def whole_build(folder: Path, cluster) -> dict:
    """A build of drawn scenes with an editor and a captioner on the cluster, killed once, and the same to its end."""
    scenes, config, workspace = folder.parent / "in", folder / "ray.yaml", folder / "ws"
    networks = ("edit", "caption")  # a worker loads torch, and every stage of its own has one
    ray = {"address": cluster.address, "stages": {name: {"workers": 1, "cpus": 0.5} for name in networks}}
    write_config(config, SMALL_SHARDS | {"engine": "ray", "ray": ray})
    command = ("build", "--input", str(scenes), "--config", str(config), "--no-publish", "--workspace", str(workspace))
    home = folder / "prefect"
    kill_when_further(guardset(*command, home=home), workspace, more_tables=12)
    return {"output": finish(guardset(*command, home=home))}


class TwoNodes:
    """A head and a second node on this machine; the head says that it has a GPU."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        memory = {"object_store_memory": 80_000_000}
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1, **memory})
        self.nodes = {"second": self._cluster.add_node(num_cpus=2, **memory)}
        self._cluster.wait_for_nodes()
        self.address = self._cluster.address

    def remove_node(self, node, allow_graceful: bool) -> None:
        self._cluster.remove_node(node, allow_graceful=allow_graceful)

    def stop(self) -> None:
        self._cluster.shutdown()


SCENARIOS = {f.__name__: f for f in (killed_actor_and_node, poison, killed_driver, no_room, one_gpu, whole_build)}


def main() -> None:
    folder, name = Path(sys.argv[1]), sys.argv[2]
    if name == "drive":
        print(json.dumps(drive(folder, sys.argv[3])))  # noqa: T201
        return
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    cluster = TwoNodes()
    try:
        results = {}
        for scenario in name.split(","):
            (folder / scenario).mkdir()
            results[scenario] = SCENARIOS[scenario](folder / scenario, cluster)
        print(json.dumps(results))  # noqa: T201
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
