"""The doctor tries things: what does not work is named, with what to do."""

import importlib.util
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import micro
from flows.build import build
from flows.cli.doctor import examine
from flows.settings import Settings, load_settings
from micro.preset import preset
from models.pipeline_load import load_pipeline
from storage.errors import FatalError
from tests.configs import write_config
from tests.models.tiny_pipelines import build as tiny_pipeline
from tests.scripted_chat import scripted_chat


def advice(settings: Settings, folder: Path, *, try_models: bool = False) -> dict[str, str]:
    """By name of the check, what it says is to be done; those that are well are left out."""
    checks = examine(settings, str(folder / "work"), try_models=try_models)
    return {check.name: check.advice for check in checks if check.advice and check.name not in ("label studio", "port")}


def classical(folder: Path, **locate: Any) -> dict[str, Any]:
    listed = {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [], "categories": []}
    (folder / "regions.json").write_text(json.dumps(listed))
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
    vlm = tmp_path / "vlm"
    vlm.mkdir()
    (vlm / "config.json").write_text((micro.WEIGHTS / "vlm" / "config.json").read_text())
    settings = preset({"recaption": {"caption": {"model": str(vlm)}}})
    assert "lacks weights in vlm" in advice(settings, tmp_path)["caption model"]
    (vlm / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}')
    assert "lacks vlm/model-1.safetensors" in advice(settings, tmp_path)["caption model"]
    (vlm / "model.safetensors.index.json").write_text("{")
    assert "lacks a model.safetensors.index.json that can be read" in advice(settings, tmp_path)["caption model"]


NETWORK = ("config.json", "diffusion_pytorch_model.safetensors")


@pytest.mark.parametrize(
    ("parts", "missing"),
    [
        ({"unet": NETWORK}, "the part scheduler"),
        ({"scheduler": ["scheduler_config.json"]}, "the part unet"),
        ({"scheduler": ["scheduler_config.json"], "unet": []}, "the part unet"),
        ({"scheduler": ["scheduler_config.json"], "unet": NETWORK[:1]}, "weights in unet"),
        ({"scheduler": ["scheduler_config.json"], "unet": NETWORK[1:]}, "unet/config.json"),
    ],
)
def test_half_a_pipeline_is_none(parts: dict[str, Any], missing: str, tmp_path: Path) -> None:
    index = {
        "_class_name": "StableDiffusionInpaintPipeline",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "safety_checker": [None, None],
    }
    (tmp_path / "editor").mkdir()
    (tmp_path / "editor" / "model_index.json").write_text(json.dumps(index))
    for part, files in parts.items():
        (tmp_path / "editor" / part).mkdir()
        for name in files:
            (tmp_path / "editor" / part / name).write_text("{}")
    settings = preset({"editing": {"edit": {"model": str(tmp_path / "editor")}}})
    assert f"lacks {missing}" in advice(settings, tmp_path)["edit model"]


def test_an_index_that_is_no_mapping_is_no_pipeline(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("[]")
    settings = preset({"editing": {"edit": {"model": str(tmp_path)}}})
    assert "is no diffusers pipeline" in advice(settings, tmp_path)["edit model"]


def test_a_name_that_is_neither_a_folder_nor_a_hub_id_is_a_sentence_for_each_kind_of_model(tmp_path: Path) -> None:
    wrong = {"model": "models/a/b"}
    editing = {"locate": {**wrong, "source": "detector"}, "edit": wrong}
    settings = preset({"editing": editing, "recaption": {"caption": wrong}})
    found = advice(settings, tmp_path)
    assert set(found) == {"locate model", "edit model", "caption model"}
    assert all("no folder that exists, and no hub id" in sentence for sentence in found.values())


def test_a_model_may_be_a_folder_beside_the_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(micro.WEIGHTS / "inpaint", tmp_path / "conf" / "models" / "own" / "editor")
    config = write_config(tmp_path / "conf" / "guardset.yaml", {"editing": {"edit": {"model": "models/own/editor"}}})
    monkeypatch.chdir(tmp_path)
    settings = load_settings(config)
    assert settings.editing.edit.model == str(tmp_path / "conf/models/own/editor")
    assert advice(settings, tmp_path) == {}
    # A server calls its models what it likes.
    served = {"model": "models/own", "server": {"base_url": "http://127.0.0.1:1/v1"}}
    write_config(config, {"recaption": {"caption": served}})
    assert load_settings(config).recaption.caption.model == "models/own"  # type: ignore[union-attr]


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


def test_an_unknown_family_of_models_is_asked_for_the_units_of_its_boxes_before_an_image_is_read(
    tmp_path: Path,
) -> None:
    with scripted_chat(lambda _: "[]", models=("our-model",)) as (url, prompts):
        locate = {"model": "our-model", "server": {"base_url": url}}
        settings = preset({"editing": {"locate": locate}})
        found = advice(settings, tmp_path)
        assert list(found) == ["locate model"]
        assert "box_units, one of resized_pixels, thousandths, thousandths_y_first, fractions" in found["locate model"]
        with pytest.raises(FatalError, match=r"how our-model writes its boxes. Set editing\.locate\.box_units"):
            build(settings, tmp_path, str(tmp_path / "work"))
        assert not (tmp_path / "work").exists()
        checks = examine(preset({"editing": {"locate": {**locate, "box_units": "fractions"}}}), str(tmp_path))
    assert "our-model, served, boxes in fractions" in [check.found for check in checks]
    assert len(prompts) == 0


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
    for stage, prompt in (("caption", "prompt"), ("rewrite", "prompt"), ("rewrite", "retry_prompt")):
        changes = {"retry": True} if prompt == "retry_prompt" else {}
        settings = preset({"recaption": {stage: {prompt: str(tmp_path / "none.txt"), **changes}}})
        assert "none.txt" in advice(settings, tmp_path)[stage]
        (tmp_path / "empty.txt").write_text(" \n")
        settings = preset({"recaption": {stage: {prompt: str(tmp_path / "empty.txt"), **changes}}})
        assert "empty.txt, is empty" in advice(settings, tmp_path)[stage]


@pytest.mark.parametrize(
    "wrong",
    [
        {"ingest": {"block_list": "none.txt"}},
        {"editing": {"locate": {"prompt": "none.txt"}}},  # what certify and the second look ask too
        {"recaption": {"caption": {"prompt": "none.txt"}}},
        {"editing": {"locate": {"model": "/none"}}},
    ],
)
def test_a_fault_is_listed_once(wrong: dict[str, Any], tmp_path: Path) -> None:
    assert len(advice(preset(wrong), tmp_path)) == 1


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"annotation": {"opt_outs": {"ann@x": ["no_such_thing"]}}}, "opt_outs names 'no_such_thing'"),
        ({"annotation": {"controls": "none.csv"}}, "none.csv"),
        ({"ray": {"stages": {"locat": {}}}}, "ray.stages names locat, which is no stage. The stages are: ingest,"),
    ],
)
def test_names_that_mean_nothing_stop_a_build_and_are_told(
    wrong: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    settings = preset(wrong)
    assert sentence in advice(settings, tmp_path)["names"]
    with pytest.raises(FatalError, match=re.escape(sentence)):
        build(settings, tmp_path, str(tmp_path / "work"))


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


@pytest.mark.skipif(importlib.util.find_spec("torchvision") is not None, reason="it is installed")
def test_a_processor_that_needs_torchvision_is_named_with_the_extra(tmp_path: Path) -> None:
    folder = tiny_pipeline("sd-inpaint-4", tmp_path / "editor")
    index = json.loads((folder / "model_index.json").read_text())
    index["tokenizer"] = ["transformers", "PixtralProcessor"]
    (folder / "model_index.json").write_text(json.dumps(index))
    found = advice(with_editor(folder), tmp_path)["edit model"]
    assert "needs torchvision, for its PixtralProcessor. Install torchvision" in found
    with pytest.raises(FatalError, match=r"cannot be loaded: .*\'\.\[gpu\]\'"):
        load_pipeline(str(folder))


def with_editor(folder: Path) -> Settings:
    edit = {"model": str(folder), "size_px": 64, "steps": 2, "strength": 1.0}
    return preset({"editing": {"edit": edit}})


def test_with_try_a_good_model_folder_edits_once(tmp_path: Path) -> None:
    settings = with_editor(tiny_pipeline("sd-inpaint-4", tmp_path / "editor"))
    checks = {check.name: check for check in examine(settings, str(tmp_path), try_models=True)}
    assert not checks["edit model"].advice
    assert re.search(r"\(StableDiffusionInpaintPipeline\); edits in \d", checks["edit model"].found)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("upscaler", "(StableDiffusionUpscalePipeline) cannot edit: it makes every picture 4 times as large"),
        ("controlnet", "(StableDiffusionControlNetPipeline) cannot edit: it needs a control image"),
        ("depth", "(MarigoldDepthPipeline) cannot edit: it takes no prompt"),
    ],
)
def test_with_try_a_model_folder_that_loads_and_edits_nothing_is_one_sentence(
    name: str, sentence: str, tmp_path: Path
) -> None:
    settings = with_editor(tiny_pipeline(name, tmp_path / "editor"))
    assert advice(settings, tmp_path) == {}  # its files are whole
    assert sentence in advice(settings, tmp_path, try_models=True)["edit model"]


def test_with_try_weights_that_are_cut_off_are_one_sentence(tmp_path: Path) -> None:
    folder = tiny_pipeline("sd-inpaint-4", tmp_path / "editor")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "cannot be loaded" in advice(with_editor(folder), tmp_path, try_models=True)["edit model"]


def test_a_server_that_lists_no_models_is_asked_for_real(tmp_path: Path) -> None:
    with scripted_chat(lambda _: "Hello there.", models=None) as (url, prompts):
        caption = {"model": "scripted", "server": {"base_url": url}}
        raw = classical(tmp_path) | {"recaption": {"caption": caption, "rewrite": caption}}
        settings = Settings.model_validate(raw)
        for try_models, found in ((False, "not checked, --try asks it"), (True, "models; answers in")):
            checks = {check.name: check for check in examine(settings, str(tmp_path), try_models=try_models)}
            assert found in checks["caption, rewrite model"].found
            assert not checks["caption, rewrite model"].advice
    assert len(prompts) == 1
