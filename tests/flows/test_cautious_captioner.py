"""A captioner that denies, doubts or withholds what an image shows, as aligned models do."""

import json
import re
from itertools import count
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.build import build
from flows.export import write_export
from flows.outcome import read_outcome
from policies.loading import load_policy_set
from storage.workspace import Workspace
from tests.photographs import POLICIES
from tests.photographs.team import PHOTOGRAPHS, make_team, settings_of_team
from tests.scripted_chat import scripted_chat

OPENING = "A photograph taken in daylight, with much of it in focus and a plain background."
NOUNS = ("rocket", "coffee cup", "teaspoon", "pagoda", "flower")
LISTED = f"{', '.join(f'a {noun}' for noun in NOUNS)} or a flag"
WAYS = {
    "denies": f"No {', '.join(f'{noun}s' for noun in NOUNS)} or flags are visible.",
    "denies in a bare list": f"No {', '.join(f'{noun}s' for noun in NOUNS)}, flags are visible.",
    "denies any sign": f"There is no sign of {LISTED} anywhere in the image.",
    "doubts": f"There might possibly be {LISTED} in it.",
    "withholds": "Some object stands in the middle of it.",
}


class Cautious:
    """Captions end in one way of caution. As a rewriter it first only adds the findings, and mends when sent back."""

    def __init__(self, way: str) -> None:
        self._caption = f"{OPENING} {WAYS[way]}"
        self.refused = count()

    def __call__(self, prompt: str) -> str:
        asked = re.search(r"Caption: (.*)\nFindings: (.*)", prompt)
        if asked is None:
            return self._caption
        findings = " and ".join(f"a {finding}" for finding in asked[2].split("; "))
        if "First attempt" not in prompt:
            return f"{asked[1][:-1]} with {findings}."
        next(self.refused)
        return f"{OPENING[:-1]} with {findings}."


@pytest.mark.parametrize("way", WAYS)
def test_no_training_text_contradicts_what_its_image_shows(tmp_path, way):
    captioner = Cautious(way)
    with scripted_chat(captioner) as (url, _):
        settings = settings_of_team(tmp_path, make_team(tmp_path, url))
        build(settings, tmp_path / "photographs", str(tmp_path / "work"))
        folder = Path(write_export(settings, str(tmp_path / "work")).path)
    outcome, vocabulary = read_outcome(Workspace.open(tmp_path / "work")), load_policy_set(POLICIES).vocabulary
    shown = {row.image_id: [a for a in row.attributes if vocabulary[a].sensitive] for row in outcome.located}
    rows = [row for file in (folder / "sft").glob("*.parquet") for row in pq.read_table(file).to_pylist()]
    assert len(rows) == len(PHOTOGRAPHS)
    for row in rows:
        text = row["completion"][0]["content"]
        assert not re.search(r"\b(?:no|not|sign|might|possibly)\b", text, re.IGNORECASE), text
        for attribute in shown[json.loads(row["prov_json"])["image_id"]]:
            assert re.search(rf"\b{vocabulary[attribute].noun}", text), (attribute, text)
