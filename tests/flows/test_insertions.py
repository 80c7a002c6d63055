"""Builds of photographs that edits make unsafe: a served editor draws, and a served model sees what was drawn; or an
excuse is removed."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from flows.annotate import items_of, may_show, pairs_of
from flows.build import BuildSummary, build
from flows.outcome import Outcome, read_outcome
from flows.settings import load_settings
from policies.loading import load_policy_set
from storage.errors import FatalError
from storage.images import decode, decode_mask, decode_stored
from storage.workspace import Workspace
from tests.models.image_server import ImageServer, picture
from tests.photographs import POLICIES, collect
from tests.photographs.team import make_team, settings_of_team
from tests.scripted_chat import scripted_chat

PHOTOGRAPHS = ("rocket.jpg", "coffee.jpg", "pagoda.jpg", "dahlia.jpg", "astronaut.jpg")
DRUM = (20, 30, 220)
CHILD = "  - {id: child, noun: child, sensitive: false, minor: true}\n"


def draws(parts: dict[str, bytes], _: int) -> Any:
    """A blue disc on the masked part, and the rest as it was."""
    window = Image.fromarray(decode(parts["image"], max_pixels=10**8).rgb)
    hole = np.asarray(Image.open(io.BytesIO(parts["mask"])))[..., 3] == 0
    rows, columns = np.nonzero(hole)
    x, y, r = columns.mean(), rows.mean(), min(np.ptp(rows), np.ptp(columns)) / 4
    down, across = np.indices(hole.shape)
    rgb = np.array(window)
    rgb[(across - x) ** 2 + (down - y) ** 2 < r**2] = DRUM
    return picture(rgb)


def sees(prompt: str, image: Image.Image) -> str:
    """Drums, and on the square photograph (an astronaut) somebody whom the vocabulary does not have."""
    found = []
    if image.width == image.height:
        found.append({"label": "pilot", "box": [10, 10, 200, 200], "instruction": "Remove the pilot."})
    rows, columns = np.nonzero((np.abs(np.asarray(image).astype(int) - DRUM) < 25).all(axis=-1))
    if len(rows) > 300:
        box = [int(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]
        found.append({"label": "drum", "box": box, "instruction": "Remove the drum."})
    return json.dumps(found)


def team(folder: Path, *, child: str = CHILD) -> None:
    """Photographs, and policies whose vocabulary knows children and marks the drum as drawable."""
    (folder / "photographs").mkdir(parents=True)
    collect(folder / "all")
    for name in PHOTOGRAPHS:
        shutil.copy(folder / "all" / name, folder / "photographs" / name)
    shutil.copytree(POLICIES, folder / "policies")
    vocabulary = folder / "policies" / "vocabulary.yaml"
    text = vocabulary.read_text().replace(
        "{id: drum, noun: drum, synonyms: [djembe], sensitive: true}",
        "{id: drum, noun: drum, synonyms: [djembe], sensitive: true, drawable: true}",
    )
    vocabulary.write_text(text + child)


def config(chat_url: str, images_url: str, **changes: Any) -> dict[str, Any]:
    served = {"server": {"base_url": chat_url}}
    return {
        "policies": "policies",
        "editing": {
            "locate": {"model": "scripted", "box_units": "resized_pixels", **served},
            "edit": {"model": "images", "size_px": 256, "endpoint": {"base_url": images_url}},
            "certify": {"witness": {"model": "witness", "box_units": "resized_pixels", **served}},
            "controls": {"insert": ["drum"], "insert_share": 1.0, "roundtrip_share": 0.0},
            **changes,
        },
    }


def run(folder: Path, chosen: dict[str, Any]) -> BuildSummary:
    (folder / "guardset.yaml").write_text(yaml.safe_dump(chosen))
    return build(load_settings(folder / "guardset.yaml"), folder / "photographs", str(folder / "work"))


@pytest.fixture(scope="module")
def images() -> Iterator[ImageServer]:
    server = ImageServer()
    server.respond = draws
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, images: ImageServer) -> Iterator[tuple[Path, Outcome]]:
    folder = tmp_path_factory.mktemp("team")
    team(folder)
    with scripted_chat(models=("scripted", "witness"), look=sees) as (url, _):
        run(folder, config(url, images.url))
        yield folder, read_outcome(Workspace.open(folder / "work"))


def test_safe_photographs_get_a_drum_and_the_one_with_somebody_unknown_does_not(built: tuple[Path, Outcome]) -> None:
    folder, outcome = built
    names = {image.image_id: image.source_key for image in outcome.images}
    assert {names[edit.image_id] for edit in outcome.edits} == set(PHOTOGRAPHS) - {"astronaut.jpg"}
    blobs = Workspace.open(folder / "work").blobs
    for edit in outcome.edits:
        assert (edit.kind, edit.verdict, edit.attributes_added) == ("insert", "accepted", ("drum",))
        assert edit.certificate is not None
        assert edit.certificate.witness not in ("", edit.locator)
        original, edited = (decode_stored(blobs.get(blob)) for blob in (edit.original_blob, edit.edited_id))
        mask = decode_mask(blobs.get(edit.mask))
        np.testing.assert_array_equal(original[~mask], edited[~mask])
        assert {(pair.policy_id, pair.before, pair.after) for pair in edit.derived if pair.flips} == {
            ("Quiet", "safe", "unsafe")
        }


def test_people_judge_both_sides_and_are_spared_what_was_put_in(built: tuple[Path, Outcome]) -> None:
    folder, outcome = built
    policies = load_policy_set(folder / "policies")
    items = {item.image_id for item in items_of(outcome)}
    assert items == {image.image_id for image in outcome.images} | {edit.edited_id for edit in outcome.edits}
    assert pairs_of(outcome, policies.vocabulary) == []  # which side lacks it is asked of removals
    shown, evidence = may_show(outcome), outcome.evidence(policies.vocabulary)
    quiet = policies.by_id("Quiet")
    for edit in outcome.edits:
        assert shown[edit.edited_id] == {"drum"}
        assert policies.derive(quiet, evidence[edit.image_id]).verdict == "safe"
        assert policies.derive(quiet, evidence[edit.edited_id]).verdict == "unsafe"


def test_the_build_counts_them_as_pairs(built: tuple[Path, Outcome]) -> None:
    assert built[1].record["cost"]["accepted_pairs"] == 4


def test_what_a_witness_does_not_see_is_refused(tmp_path: Path, images: ImageServer) -> None:
    team(tmp_path)
    with scripted_chat(models=("scripted", "witness"), look=lambda prompt, image: "[]") as (url, _):
        run(tmp_path, config(url, images.url))
    outcome = read_outcome(Workspace.open(tmp_path / "work"))
    assert outcome.edits == []
    assert {r.code for r in outcome.rejections["select"]} == {"insertion_missing"}


def test_without_a_word_for_a_child_no_build_starts(tmp_path: Path) -> None:
    team(tmp_path, child="")
    with pytest.raises(FatalError, match="no word for a child, so nobody looks for one"):
        run(tmp_path, config("http://127.0.0.1:9/v1", "http://127.0.0.1:9/v1"))
    assert not (tmp_path / "work").exists()


def test_a_photograph_that_an_exception_makes_safe_loses_the_excuse(tmp_path: Path) -> None:
    """A flag is allowed beside a space helmet; without the helmet it is not."""
    settings = make_team(tmp_path, "http://127.0.0.1:9/v1", ("astronaut.jpg",))
    del settings["recaption"]
    settings["editing"]["controls"] = {"excuse_share": 1.0, "sham_share": 1.0, "roundtrip_share": 0.0}
    build(settings_of_team(tmp_path, settings), tmp_path / "photographs", str(tmp_path / "work"))
    edits = {edit.kind: edit for edit in read_outcome(Workspace.open(tmp_path / "work")).edits}
    removal = edits["remove"]
    assert (removal.target_attributes, removal.attributes_removed) == (("space_helmet",), ("space_helmet",))
    assert "flag" in removal.attributes_before
    flips = {pair.policy_id: (pair.before, pair.after, pair.rules_after) for pair in removal.derived if pair.flips}
    assert flips == {"Quiet": ("safe", "unsafe", ("Quiet.R5",))}
