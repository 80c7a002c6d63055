"""Real photographs, a team's own vocabulary, policies and regions: the main job, from the first command.

No weights and no file of the package are touched: the preset `classical` with its blanks filled in, captions from a
scripted server, a real Label Studio.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from annotation.server import status, stop
from editing.masks import feather
from flows.outcome import Outcome, read_outcome
from micro.people import FLAWLESS
from micro.simulate import simulate
from micro.visible import shown_by_edits
from policies.loading import load_policy_set
from storage.images import Mask, decode_mask, decode_stored
from storage.workspace import Workspace
from tests.flows.test_settings_redo import answer
from tests.label_studio import put_migrated
from tests.photographs import LABEL_MAP, POLICIES, collect, regions_for
from tests.scripted_chat import scripted_chat

pytestmark = [pytest.mark.server, pytest.mark.slow]
CHECKOUT = Path(__file__).resolve().parents[2]


class Team:
    """A user's folder, and the command as the user types it there."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self._home = folder, home

    def guardset(self, line: str, status: int = 0) -> str:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_API")}
        done = subprocess.run(
            [sys.executable, "-m", "guardset", *line.split()],
            cwd=self.folder,
            env=environment
            | {"PREFECT_HOME": str(self._home), "OMP_NUM_THREADS": "1", "COLUMNS": "120", "PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    @property
    def workspace(self) -> Workspace:
        return Workspace.open(self.folder / "work")

    @property
    def outcome(self) -> Outcome:
        return read_outcome(self.workspace)


def fill_in(config: Path, url: str) -> None:
    """As a person would in an editor."""
    text = config.read_text()
    text = re.sub(r"FILL IN the folder of your policies", "policies", text)
    text = re.sub(r"FILL IN the licence.*", "mixed", text)
    text = re.sub(r"FILL IN your regions", "regions.json", text)
    text = text.replace("# label_map: {Kitten: cat}", f"label_map: {json.dumps(LABEL_MAP)}")
    text = text.replace("# recaption:", "recaption:").replace("#   second_look", "  second_look")
    text = re.sub(r"#   (caption|rewrite): .*", rf'  \1: {{model: scripted, server: {{base_url: "{url}"}}}}', text)
    program = CHECKOUT / ".venv-label-studio" / "bin" / "label-studio"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config.write_text(f"{text}\nannotation: {{executable: {program}, port: {port}}}\nexport: {{test_ratio: 0.4}}\n")


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("team")
    (folder / "photographs").mkdir()
    names = collect(folder / "photographs")
    (folder / "regions.json").write_text(json.dumps(regions_for(names)))
    shutil.copytree(POLICIES, folder / "policies")
    put_migrated(tmp_path_factory, folder / "work")
    team = Team(folder, tmp_path_factory.mktemp("prefect"))
    with scripted_chat(answer) as (url, _):
        team.guardset("init --preset classical")
        refused = team.guardset("build --input photographs --workspace work --config guardset.yaml", status=1)
        assert "has blanks to be filled in: policies, ingest.licence, editing.locate.manifest" in " ".join(
            refused.split()
        )
        fill_in(folder / "guardset.yaml", url)
        assert "jpg" in team.guardset("inspect photographs --config guardset.yaml")
        found = team.guardset("doctor --workspace work --config guardset.yaml --try")
        assert "Fleet, Quiet, Town" in found
        assert "edits in" in found
        team.guardset("build --input photographs --workspace work --config guardset.yaml")
        try:
            _vote(team)
            yield team
        finally:
            stop(folder / "work")


def _vote(team: Team) -> None:
    """Two scripted people say what the regions show; an edit shows those whose pixels are as they were."""
    outcome, policies, blobs = team.outcome, load_policy_set(POLICIES), team.workspace.blobs
    shapes = {image.image_id: (image.height, image.width) for image in outcome.images}
    things = {
        row.image_id: [
            (name, decode_mask(blobs.get(found.mask)) if found.mask else inside(found.box, shapes[row.image_id]))
            for found in row.findings
            for name in found.attributes
        ]
        for row in outcome.located
    }
    truth = {row.image_id: list(row.attributes) for row in outcome.located}
    truth |= shown_by_edits(outcome.edits, things.get, blobs.get)
    asked = {edit.edited_id: set(edit.target_attributes) for edit in outcome.edits}
    assert not any(asked[edited_id] & set(truth[edited_id]) for edited_id in asked)  # the classical editor removes
    server = status(team.folder / "work")
    assert server is not None
    simulate(server, team.workspace, policies, truth, people=FLAWLESS)
    team.guardset("collect --workspace work")


def inside(box: tuple[int, ...], shape: tuple[int, int]) -> Mask:
    mask = np.zeros(shape, np.bool_)
    mask[box[1] : box[3], box[0] : box[2]] = True
    return mask


def test_every_photograph_with_a_forbidden_region_becomes_a_pair_or_says_why_not(team: Team) -> None:
    outcome, policies = team.outcome, load_policy_set(POLICIES)
    names = {image.image_id: image.source_key for image in outcome.images}
    regulated = {a for policy in policies for rule in policy.rules for a in rule.forbids}
    wanted = {names[row.image_id] for row in outcome.located if regulated & set(row.attributes)}
    pairs = {names[edit.image_id]: edit for edit in outcome.edits if edit.kind == "remove"}
    refused = {names[r.key]: r.code for r in outcome.rejections["edit"]}
    assert wanted == pairs.keys() | refused.keys()
    assert set(refused.values()) <= {"mask_too_large"}
    assert refused["chelsea.jpg"] == "mask_too_large"  # a cat that fills the picture
    assert pairs["rocket.jpg"].attributes_removed == ("rocket",)
    assert len(pairs) >= 5


def test_outside_the_mask_a_photograph_keeps_every_pixel(team: Team) -> None:
    blobs = team.workspace.blobs
    for edit in (e for e in team.outcome.edits if e.kind == "remove"):
        original, edited = (decode_stored(blobs.get(blob)) for blob in (edit.original_blob, edit.edited_id))
        mask = decode_mask(blobs.get(edit.mask))
        outside = feather(mask, 2) == 0
        np.testing.assert_array_equal(edited[outside], original[outside])
        assert (edited[mask] != original[mask]).any(axis=1).mean() > 0.5


def test_a_polygon_is_repainted_as_drawn_and_not_as_its_box(team: Team) -> None:
    regions = json.loads((team.folder / "regions.json").read_text())
    polygons = {a["image_id"] for a in regions["annotations"] if a.get("segmentation")}
    names = {image["id"]: image["file_name"] for image in regions["images"]}
    drawn = {names[image_id] for image_id in polygons}
    outcome = team.outcome
    sources = {image.image_id: image.source_key for image in outcome.images}
    shares = [
        decode_mask(team.workspace.blobs.get(finding.mask))[y0:y1, x0:x1].mean()
        for row in outcome.located
        if sources[row.image_id] in drawn
        for finding in row.findings
        if finding.mask
        for x0, y0, x1, y1 in [finding.box]
    ]
    assert len(shares) >= 5
    assert max(shares) < 0.98  # a polygon leaves the corners of its box alone


def test_recaptions_speak_the_words_of_the_team(team: Team) -> None:
    vocabulary = load_policy_set(POLICIES).vocabulary
    restored = {a for r in team.outcome.recaptions for a in r.attributes}
    assert {"rocket", "coffee_cup", "pagoda"} <= restored
    for recaption in team.outcome.recaptions:
        for attribute in recaption.attributes:
            assert vocabulary[attribute].noun in recaption.text


def test_the_workspace_keeps_its_config_and_later_commands_need_none(team: Team) -> None:
    shown = team.guardset("status --workspace work")
    for policy in ("Fleet", "Quiet", "Town"):
        assert policy in shown
    assert "L1" not in shown
    again = team.guardset("build --input photographs --workspace work --no-publish")
    assert "looked up" in again


def test_another_config_says_what_it_decides_otherwise(team: Team) -> None:
    other = (team.folder / "guardset.yaml").read_text().replace("feather_px: 2", "feather_px: 4")
    (team.folder / "other.yaml").write_text(other)
    said = " ".join(team.guardset("status --workspace work --config other.yaml").split())
    assert "what decides edit, certify differs from the last build" in said


def test_the_export_is_whole_and_trains(team: Team) -> None:
    team.guardset("export --workspace work")
    (export,) = (team.folder / "work" / "exports" / "guardset").iterdir()
    team.guardset(f"verify {export}")
    for view in ("sft", "rl", "benchmark"):
        assert list((export / view).glob("*.parquet")), view
    rows = [row for path in (export / "rl").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    assert {row["policy_name"] for row in rows} <= {0, 1, 2, "Policy Fleet", "Policy Quiet", "Policy Town"}
    assert {row["safety_label"] for row in rows} == {0, 1}
    assert "Fleet" in (export / "report.html").read_text()
