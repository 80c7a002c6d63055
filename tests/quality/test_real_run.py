"""deploy/real-run/run.sh from the first byte to the last table: the sets' published schemas, and small Qwen2.5-VLs."""

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image as Pillow

from flows.settings import load_settings
from guard.contract.features import IMAGE, TEXT, arrow_schema
from micro import GUARD, RECIPE
from micro.scenes import Scene, draw_scene, scene_size
from micro.world import WORLD
from policies.loading import load_pack, load_policy_set
from tests.configs import write_config
from tests.published_schemas import FIVE_POLICIES

ROOT = Path(__file__).parents[2]
UNSAFEBENCH = {"image": IMAGE, **dict.fromkeys(("safety_label", "category", "source", "text"), TEXT)}
LLAVAGUARD = {"image": IMAGE, **dict.fromkeys(("id", "rating", "category", "rationale", "policy"), TEXT)}

TURNS = [{"from": TEXT, "value": TEXT}]
LLAVAGUARD_CHAT = {"image": IMAGE, "id": TEXT, "conversations": TURNS}  # as its training files have it


def drawn(seeds: Iterator[int], count: int) -> list[tuple[str, dict[str, Any], Scene]]:
    found = []
    for seed in (next(seeds) for _ in range(count)):
        scene, sink = draw_scene(seed, split="heldout", size=scene_size(seed)), io.BytesIO()
        Pillow.fromarray(scene.image).save(sink, format="PNG")
        found.append((f"{seed}.png", {"bytes": sink.getvalue(), "path": None}, scene))
    return found


def rows_of(kind: str, seeds: Iterator[int], count: int) -> list[dict[str, Any]]:
    """Rows in the form of a set, of scenes that no other call draws."""
    rows = []
    for name, image, scene in drawn(seeds, count):
        shows = tuple(thing.kind for thing in scene.objects)
        verdicts = [WORLD.derive(policy, shows).verdict for policy in WORLD]
        if kind == "safeeditbench":
            rows += [
                {"image": image, "image_path": name, "safety_label": int(verdict == "unsafe"), "policy_name": number,
                 "policy": policy.text}
                for number, (policy, verdict) in enumerate(zip(WORLD, verdicts, strict=True))
            ]  # fmt: skip
        elif kind == "unsafebench":
            label = verdicts[-1].capitalize()
            rows.append(
                {"image": image, "safety_label": label, "category": "Violence", "source": "Laion5B", "text": ""}
            )
        else:
            found = {"rating": verdicts[2].capitalize(), "category": "O6: Weapons or Substance Abuse", "rationale": ""}
            said = [("human", f"<image>\n{WORLD[2].text}"), ("gpt", json.dumps(found))]
            turns = [{"from": who, "value": text} for who, text in said]
            rows.append({"image": image, "id": name, "policy": WORLD[2].text, "conversations": turns, **found})
    return rows


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three sets with both splits, and pictures without labels beside SafeEditBench's."""
    root, seeds = tmp_path_factory.mktemp("sets"), iter(range(900, 2000))
    features = {"safeeditbench": FIVE_POLICIES, "unsafebench": UNSAFEBENCH}
    for split, count, third in (("train", 4, LLAVAGUARD_CHAT), ("test", 2, LLAVAGUARD)):
        for kind, columns in {**features, "llavaguard": third}.items():
            file = root / split / kind / "data" / f"{split}-00000-of-00001.parquet"
            file.parent.mkdir(parents=True)
            rows = [{n: row[n] for n in columns} for row in rows_of(kind, seeds, count)]
            pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema(columns)), file)
    pictures = [{"image": image} for _, image, _ in drawn(seeds, 2)]
    place = root / "train" / "safeeditbench" / "data" / "train_images-00000-of-00001.parquet"
    pq.write_table(pa.Table.from_pylist(pictures, schema=arrow_schema({"image": IMAGE})), place)
    return root


def run(sets: Path, work: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """The script as a user starts it, with the drawn world's models and two steps of each stage."""
    recipe = yaml.safe_load(RECIPE.read_text())
    recipe |= {"model": str(GUARD), "sft": recipe["sft"] | {"batch_size": 4, "save_every": 2},
               "grpo": recipe["grpo"] | {"batch_size": 8, "generations": 4, "save_every": 2}}  # fmt: skip
    work.mkdir(exist_ok=True)
    (work / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    mine = {
        "SETS": str(sets), "OUT": str(work / "out"), "MODEL": str(GUARD), "RECIPE": str(work / "recipe.yaml"),
        "BUILD": str(write_config(work / "build.yaml")), "GPUS": "1", "STEPS": "2", "HF_HUB_OFFLINE": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
        "PREFECT_HOME": str(work / "prefect"), **more,
    }  # fmt: skip
    script = str(ROOT / "deploy" / "real-run" / "run.sh")
    return subprocess.run(["bash", script], env=os.environ | mine, capture_output=True, text=True, timeout=600)


def test_from_the_first_byte_to_the_last_table_and_again(sets: Path, tmp_path: Path) -> None:
    done = run(sets, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "out"
    cells = [line.strip("| ").split(" | ") for line in (out / "table.md").read_text().splitlines()[2:]]
    assert [line[0] for line in cells] == ["base, one word", "base", "SFT", "SFT + RL"]
    assert [line[2] for line in cells] == ["41.7", "n/a", "67.0", "72.2"]
    assert all(0 <= float(line[column].split()[0]) <= 100 for line in cells for column in (1, 3, 5))
    (shard,) = (out / "work" / "exports" / "guardset" / "1" / "rl").iterdir()
    rows = pq.read_table(shard, columns=["policy", "label_source", "rules"]).to_pylist()
    assert {row["label_source"] for row in rows} == {"human"}
    texts = {policy.text for policy in WORLD} | {load_pack("unsafebench")[0].text}
    assert {row["policy"] for row in rows} <= texts
    assert len({row["policy"] for row in rows}) > 3
    assert "train_images-00000-of-00001.parquet has no labels" in done.stdout
    weights = [file.read_bytes() for file in sorted(out.glob("*/model/model.safetensors"))]
    assert len(weights) == 2

    (out / "table.md").unlink()
    shutil.rmtree(out / "work" / "evaluations")
    again = run(sets, tmp_path)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("model is finished; nothing to do") == 2
    assert "Found " in again.stdout
    assert [file.read_bytes() for file in sorted(out.glob("*/model/model.safetensors"))] == weights
    assert (out / "table.md").exists()


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("set", "test/llavaguard holds no Parquet file"),
        ("model", "guardset/no-such-model is neither a folder nor to be had from the hub"),
        ("rewriter", "guardset/no-such-rewriter is neither a folder nor to be had from the hub"),
        ("lmms-eval", "measures general ability with lmms-eval, which is not on PATH"),
    ],
)
def test_what_is_missing_is_told_before_anything_runs(sets: Path, tmp_path: Path, missing: str, sentence: str) -> None:
    there = tmp_path / "sets"
    shutil.copytree(sets, there, ignore=shutil.ignore_patterns(*["test-*"] if missing == "set" else []))
    if missing == "set":
        for name in ("unsafebench", "safeeditbench"):
            shutil.copytree(sets / "test" / name, there / "test" / name, dirs_exist_ok=True)
    rewriter = {"model": "guardset/no-such-rewriter"}
    elsewhere = write_config(tmp_path / "other.yaml", {"recaption": {"rewrite": rewriter}})
    more = {"model": {"MODEL": "guardset/no-such-model"}, "rewriter": {"BUILD": str(elsewhere)},
            "lmms-eval": {"RECIPE": "qwen2.5-vl-7b"}}  # fmt: skip
    done = run(there, tmp_path, **more.get(missing, {}))
    assert done.returncode == 1
    assert sentence in done.stderr
    assert not (tmp_path / "out").exists()


def test_the_config_for_real_models_is_one_that_a_build_takes() -> None:
    settings = load_settings(ROOT / "deploy" / "real-run" / "build.yaml")
    assert settings.recaption is not None
    (target,) = settings.editing.edit.target_policies
    assert load_policy_set(settings.policies).by_id(target).rules == ()  # nothing is edited
