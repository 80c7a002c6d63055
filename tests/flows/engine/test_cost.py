"""Cost in the build record, a limit that is not passed, and the dry run: through the real command.

Captions come from a server on the loopback that counts what it is asked; an image costs 1, so the bill is the number
of requests. A manifest without regions keeps every other model out of it.
"""

import contextvars
import json

import pytest
from PIL import Image as PilImage

from flows.build import build
from flows.cli.commands.building import _with_limit
from flows.cli.main import _guarded, app
from flows.engine.job import Job
from flows.engine.pool import LocalPool
from flows.engine.progress import StageSummary
from flows.estimate import scale_up
from micro.preset import preset
from models.chat import ChatRequest
from models.metering import Budget, CostLimitError, MeteredChat, Prices
from storage.errors import FatalError
from storage.images import encode_png
from storage.records.rejection import Rejection
from storage.records.tables import to_table
from storage.stage import BatchResult
from tests.configs import write_config
from tests.drawing import draw
from tests.fakes import FakeChat
from tests.models.chat_server import chat_server
from tests.toy_stages import toy_stage

PRICES = {"m": {"image": 1.0}}


@pytest.fixture
def server():
    with chat_server() as running:
        yield running


@pytest.fixture
def guardset(server, tmp_path, capsys):
    """Runs `guardset build` on so many drawings, in one workspace: (exit status, what it printed)."""

    def run(*options, images=12, threads=1):
        folder = tmp_path / f"photos-{images}"
        folder.mkdir(exist_ok=True)
        for seed in range(images):
            (folder / f"{seed:02}.png").write_bytes(encode_png(draw(seed)))
        manifest = tmp_path / "regions.jsonl"
        manifest.write_text("\n".join(json.dumps({"file": f"{seed:02}.png", "label": None}) for seed in range(images)))
        changes = {
            "threads": threads,
            "prices": PRICES,
            "editing": {"locate": {"source": "manifest", "manifest": str(manifest)}},
            "recaption": {"caption": {"model": "m", "server": {"base_url": server.url}, "shard_rows": 4}},
        }
        config = write_config(tmp_path / "guardset.yaml", changes)
        arguments = ["build", "-i", str(folder), "-w", str(tmp_path / "ws"), "-c", str(config), "--no-publish"]
        status = _guarded(lambda: app([*arguments, *options], result_action="return_value"))
        return status, " ".join(capsys.readouterr().out.split())

    run.root = tmp_path / "ws"
    return run


def record_of(root):
    latest = json.loads((root / "builds" / "latest.json").read_text())["build_id"]
    return json.loads((root / "builds" / f"{latest}.json").read_text())


def asked(server):
    return len(server.seen.bodies)


def test_a_limit_stops_cleanly_and_a_higher_one_goes_on(guardset, server, monkeypatch):
    monkeypatch.setattr("sys.argv", ["guardset", "build", "--max-cost=6", "-w", "ws"])
    status, said = guardset("--max-cost", "6")
    assert status == 1
    # Three shards of four. The first costs 4; a second would make it 8, so it is not begun.
    assert asked(server) == 4
    assert "Stopped. 4 of the limit of 6 is spent, and the next 4 rows of caption would cost about 4, all 8" in said
    # 4 and 8 make 12, and a tenth more for stages that have not begun: 13.2
    assert "To go on: guardset build --max-cost=14 -w ws" in said
    assert said.index("Stopped.") < said.index("To go on:")
    assert not (guardset.root / "builds").exists()

    assert guardset("--max-cost", "6")[0] == 1  # the 4 are remembered
    assert asked(server) == 4

    assert guardset("--max-cost", "12")[0] == 0
    assert asked(server) == 12
    record = record_of(guardset.root)
    caption = next(stage for stage in record["stages"] if stage["name"] == "caption")
    assert (caption["cost"], caption["lost_cost"], caption["requests"], caption["images"]) == (12, 0, 12, 12)
    assert caption["prompt_tokens"] == 12 * 7  # as the server says
    assert caption["work_seconds"] > 0
    assert (record["cost"]["total"], record["cost"]["accepted_pairs"]) == (12, 0)
    assert record["cost"]["per_accepted_pair"] is None


@pytest.mark.parametrize(
    ("at_least", "words"),
    [
        (3.0, ["build", "--max-cost", "4", "-w", "ws"]),  # twice as much is more
        (40.0, ["build", "--max-cost", "44", "-w", "ws"]),
        (4.11, ["build", "--max-cost", "4.6", "-w", "ws"]),  # rounded up
        (None, ["build", "--max-cost", "LIMIT", "-w", "ws"]),
    ],
)
def test_the_limit_to_go_on_with_would_do_for_what_is_known_to_be_left(at_least, words):
    assert _with_limit(["build", "--max-cost", "2", "-w", "ws"], at_least) == words


def test_where_nothing_is_known_of_the_rest_a_person_chooses(guardset, server, monkeypatch):
    monkeypatch.setattr("sys.argv", ["guardset", "build", "--max-cost=0.5", "-w", "ws"])
    status, said = guardset("--max-cost", "0.5")
    assert (status, asked(server)) == (1, 0)  # not even the first request is within the limit
    assert "the next request could cost up to 1. " in said
    assert "To go on, choose a larger LIMIT: guardset build --max-cost=LIMIT -w ws" in said


def test_shards_side_by_side_share_the_limit_and_lost_money_counts(guardset, server):
    assert guardset("--max-cost", "6", threads=2)[0] == 1
    # Two shards begin at once, before anything is known about their cost: 4 and as much of the other as fits.
    assert asked(server) == 6
    assert guardset("--max-cost", "13", threads=1)[0] == 1
    # 6 were spent, 4 of them on a shard that stands; two more shards would make it 14.
    assert asked(server) == 10
    assert guardset("--max-cost", "14", threads=1)[0] == 0
    assert asked(server) == 14
    cost = record_of(guardset.root)["cost"]
    assert (cost["total"], cost["lost"]) == (12, 2)


def test_a_limit_without_prices_is_a_plain_sentence(tmp_path):
    with pytest.raises(FatalError, match="needs prices"):
        build(preset(), tmp_path, str(tmp_path / "ws"), max_cost=1.0)
    assert not (tmp_path / "ws").exists()


def test_a_dry_run_scales_a_sample_up_and_is_paid_once(guardset, server):
    status, said = guardset("--dry-run", images=40)
    assert (status, asked(server)) == (0, 16)
    # 16 of 40 files cost 16: all of them 40, at 7 tokens in each.
    assert "About 280 tokens in" in said
    assert "cost 40" in said
    assert "for 40 files. Scaled up from 16 of them, which cost 16. Nothing was published." in said
    assert not (guardset.root / "builds").exists()
    guardset("--dry-run", images=40)
    assert asked(server) == 16


def test_a_dry_run_of_a_small_input_does_its_build(guardset, server):
    guardset("--dry-run")
    assert guardset()[0] == 0
    assert asked(server) == 12


def test_a_dry_run_obeys_the_limit_too(guardset, server):
    assert guardset("--dry-run", "--max-cost", "9", images=40)[0] == 1
    assert asked(server) <= 9


def test_an_estimate_leaves_out_the_seconds_that_loaded_the_models():
    def stage(rows, seconds, parallel):
        return StageSummary("s", rows, rows, {}, 1, 0, seconds, cost=rows, work_seconds=seconds, parallel=parallel)

    # 4 rows took 100 s with the loading, 12 more took 6 s: half a second a row, for 160 rows.
    (alone,) = scale_up([[stage(4, 100.0, False)], [stage(12, 6.0, False)]], 10.0, 2)
    (shared,) = scale_up([[stage(4, 100.0, True)], [stage(12, 6.0, True)]], 10.0, 2)
    assert (alone.rows, alone.cost, alone.seconds) == (160, 160, 80)
    assert shared.seconds == 40
    (unseen,) = scale_up([[stage(4, 8.0, False)], [stage(0, 0.0, False)]], 10.0, 2)
    assert unseen.seconds == 80  # better than nothing: what the first part took


class Broken:
    """Fails at the row "c"."""

    def run_shard(self, shard):
        if "c" in shard["key"].to_pylist():
            raise FatalError("The model is gone.")
        return _rows(*shard["key"].to_pylist())


def _rows(*keys):
    return BatchResult([Rejection(key, "", "", "") for key in keys])


def test_a_failed_run_says_which_shard_and_which_rows(workspace):
    rows = to_table([Rejection(key, "", "", "") for key in "abcde"], Rejection)
    job = Job(workspace, LocalPool(), Budget({}), threads=1)
    place = r"The model is gone\. \(Stage broken, shard 2 of 3, rows 3 to 4 of 5, of which the first is c\.\)"
    with pytest.raises(FatalError, match=place):
        list(job.stage(toy_stage("broken", Broken), [rows], 2))


class Paying:
    """Asks a metered model once for each row."""

    def __init__(self):
        self._model = MeteredChat(FakeChat(lambda request: "x"), "m")

    def run_shard(self, shard):
        keys = shard["key"].to_pylist()
        self._model.generate([ChatRequest(key, (PilImage.new("RGB", (1, 1)),)) for key in keys])
        return _rows(*keys)


class Elsewhere(LocalPool):
    """Runs shards where this process's budget is not known, as a worker on another machine does."""

    def run(self, workspace, stage, input_hash):
        return contextvars.Context().run(super().run, workspace, stage, input_hash)


@pytest.mark.parametrize("pool", [LocalPool, Elsewhere])
def test_the_limit_holds_wherever_shards_run(workspace, pool):
    rows = to_table([Rejection(key, "", "", "") for key in "abcdefgh"], Rejection)
    stage = toy_stage("paying", Paying, needs="gpu")

    def run(limit):
        job = Job(workspace, pool(), Budget({"m": Prices(image=1.0)}, limit), threads=1)
        list(job.stage(stage, [rows], 2))
        return job.summaries

    with pytest.raises(CostLimitError, match="4 of the limit of 5 is spent, and the next 2 rows of paying"):
        run(5.0)
    with pytest.raises(CostLimitError, match="6 of the limit of 7"):
        run(7.0)
    (summary,) = run(8.0)
    assert (summary.cost, summary.lost_cost, summary.requests, summary.looked_up) == (8, 0, 8, 3)
