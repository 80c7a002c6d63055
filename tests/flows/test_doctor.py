"""The doctor tries things: what does not work is named, with what to do."""

import json
from pathlib import Path
from typing import Any

import pytest

import micro
from flows.doctor import examine
from flows.settings import Settings
from micro.preset import preset
from tests.scripted_chat import scripted_chat


def advice(settings: Settings, folder: Path, *, try_models: bool = False) -> dict[str, str]:
    """By name of the check, what it says is to be done; those that are well are left out."""
    checks = examine(settings, str(folder / "work"), try_models=try_models)
    return {check.name: check.advice for check in checks if check.advice and check.name not in ("label studio", "port")}


def classical(folder: Path, **locate: Any) -> dict[str, Any]:
    (folder / "regions.json").write_text('{"images": [], "annotations": [], "categories": []}')
    return {
        "policies": micro.POLICIES,
        "editing": {
            "locate": {"source": "manifest", "manifest": folder / "regions.json", **locate},
            "edit": {"model": "opencv-telea"},
            "certify": {"recheck": "none"},
        },
    }


def test_a_config_that_works_has_nothing_to_be_done(tmp_path: Path) -> None:
    assert advice(Settings.model_validate(classical(tmp_path)), tmp_path, try_models=True) == {}


def test_an_empty_model_folder_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    settings = preset(
        {"editing": {"locate": {"model": str(tmp_path / "empty")}, "edit": {"model": str(tmp_path / "empty")}}}
    )
    found = advice(settings, tmp_path)
    assert "no model that transformers can load" in found["locate model"]
    assert "no diffusers pipeline" in found["edit model"]


def test_a_config_without_weights_and_an_index_without_a_part(tmp_path: Path) -> None:
    vlm, editor = tmp_path / "vlm", tmp_path / "editor"
    vlm.mkdir()
    (vlm / "config.json").write_text((micro.WEIGHTS / "vlm" / "config.json").read_text())
    editor.mkdir()
    index = {"_class_name": "StableDiffusionInpaintPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (editor / "model_index.json").write_text(json.dumps(index))
    settings = preset({"recaption": {"caption": {"model": str(vlm)}}, "editing": {"edit": {"model": str(editor)}}})
    found = advice(settings, tmp_path)
    assert "no weights" in found["caption model"]
    assert "lacks the part unet" in found["edit model"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    settings = preset({"editing": {"edit": {"model": str(tmp_path / "nowhere")}}})
    assert "does not exist" in advice(settings, tmp_path)["edit model"]


def test_a_server_that_is_not_there_and_one_that_serves_another_model(tmp_path: Path) -> None:
    gone = {"base_url": "http://127.0.0.1:9/v1"}
    with scripted_chat(lambda _: "Words.", models=("other",)) as (url, _):
        settings = preset(
            {
                "editing": {"locate": {"model": "wanted", "server": gone}},
                "recaption": {"caption": {"model": "wanted", "server": {"base_url": url}}},
            }
        )
        found = advice(settings, tmp_path)
    assert "No server answers at 127.0.0.1:9" in found["locate model"]
    assert "lists other, not wanted" in found["caption model"]


def test_a_missing_key_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    server = {"base_url": "http://127.0.0.1:9/v1", "api_key_env": "NO_SUCH_KEY"}
    settings = preset({"recaption": {"rewrite": {"model": "m", "server": server}}})
    assert "Set NO_SUCH_KEY" in advice(settings, tmp_path)["rewrite model"]


def test_the_block_list_policies_prompts_and_regions_are_read(tmp_path: Path) -> None:
    (tmp_path / "blocked.txt").write_text("no hash")
    raw = classical(tmp_path) | {"ingest": {"block_list": tmp_path / "blocked.txt"}}
    assert "line 1" in advice(Settings.model_validate(raw), tmp_path)["block list"]
    raw = classical(tmp_path, label_map={"Cat": "no_such_thing"})
    assert "no_such_thing" in advice(Settings.model_validate(raw), tmp_path)["locate"]
    raw = classical(tmp_path) | {"policies": tmp_path / "nowhere"}
    assert "does not exist" in advice(Settings.model_validate(raw), tmp_path)["policies"]
    settings = preset({"recaption": {"caption": {"prompt": str(tmp_path / "none.txt")}}})
    assert "none.txt" in advice(settings, tmp_path)["caption"]


def test_with_try_each_model_answers_and_edits_once(tmp_path: Path) -> None:
    with scripted_chat(lambda _: "") as (url, prompts):
        server = {"base_url": url}
        raw = classical(tmp_path) | {
            "recaption": {
                "caption": {"model": "scripted", "server": server},
                "rewrite": {"model": "scripted", "server": server},
            }
        }
        settings = Settings.model_validate(raw)
        assert advice(settings, tmp_path) == {}
        assert len(prompts) == 0
        found = advice(settings, tmp_path, try_models=True)
        assert len(prompts) == 1  # one model, asked once for both steps
    assert "answers without a word" in found["caption, rewrite model"]
