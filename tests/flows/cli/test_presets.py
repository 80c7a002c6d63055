"""The configs that `guardset init` writes: whole, and usable once their blanks are filled."""

import json
import re
import shlex
from pathlib import Path

import pytest

import micro
from flows.cli.commands.starting import init
from flows.cli.presets import blanks_of, preset_names, preset_text
from flows.pipeline import ready_stages
from flows.settings import BLANK, load_settings
from policies.loading import load_policy_set
from storage.errors import FatalError
from tests.photographs import POLICIES


def filled(name: str, folder: Path) -> Path:
    """A preset with each blank filled in as a person would."""
    listed = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": []}
    (folder / "regions.json").write_text(json.dumps(listed))
    answers = {"policies": str(POLICIES), "regions": "regions.json", "address": "https://host.example/v1"}

    def answer(blank: re.Match[str]) -> str:
        return next((answers[key] for key in answers if key in blank[0]), "something")

    path = folder / f"{name}.yaml"
    path.write_text(re.sub(rf'{BLANK}[^"#\n]*?(?=\s*(?:"|#|$))', answer, preset_text(name), flags=re.MULTILINE))
    return path


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_runs_once_its_blanks_are_filled(name: str, tmp_path: Path) -> None:
    settings = load_settings(filled(name, tmp_path))
    stages = ready_stages(settings, load_policy_set(settings.policies))
    assert all(stage.decides for stage in stages.values())
    needs = {stage.needs for stage in stages.values()}
    expected = {"classical": {"nothing"}, "hosted": {"server", "nothing"}, "local": {"gpu", "nothing"}}
    assert needs == expected.get(name, {"server", "gpu", "nothing"})


@pytest.mark.parametrize("name", preset_names())
def test_a_blank_is_named_with_its_place(name: str, tmp_path: Path) -> None:
    path = tmp_path / "guardset.yaml"
    path.write_text(preset_text(name))
    with pytest.raises(FatalError, match=r"has blanks to be filled in: .*ingest\.licence"):
        load_settings(path)
    assert blanks_of(preset_text(name))


def test_a_models_settings_come_from_the_preset_or_the_pipeline(tmp_path: Path) -> None:
    """A model alone gets no toy's size, schedule or fill."""
    path = tmp_path / "guardset.yaml"
    path.write_text("editing: {locate: {model: hub/vlm}, edit: {model: hub/sdxl}}")
    edit = load_settings(path).editing.edit
    assert (edit.size_px, edit.steps, edit.strength, edit.guidance_scale, edit.prefill) == (
        None,
        None,
        None,
        None,
        "none",
    )


def test_a_preset_of_ones_own_keeps_its_files(tmp_path: Path) -> None:
    """A copy elsewhere still finds what the preset names relative to itself."""
    copy = tmp_path / "guardset.yaml"
    copy.write_text(preset_text(str(micro.PRESET)))
    settings = load_settings(copy)
    assert settings.policies == micro.POLICIES
    assert Path(settings.editing.edit.model) == micro.WEIGHTS / "inpaint"
    assert settings == load_settings(micro.PRESET)


def test_init_never_writes_over_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "guardset.yaml"
    init(preset="classical", output=output)
    assert "policies: FILL IN" in capsys.readouterr().out
    before = output.read_text()
    with pytest.raises(FatalError, match="exists already and is left as it is"):
        init(preset="vllm", output=output)
    assert output.read_text() == before


def test_init_makes_the_folder_and_its_command_can_be_pasted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "a new" / "folder" / "my [config].yaml"
    init(preset="vllm", output=output)
    assert output.read_text() == preset_text("vllm")
    *_, last = capsys.readouterr().out.splitlines()
    assert shlex.split(last) == ["Then:", "guardset", "doctor", "--config", str(output), "--try"]


def test_an_unknown_preset_is_answered_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="classical, hosted, local, vllm, or a YAML file"):
        preset_text("sdxl")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(FatalError, match="not valid YAML"):
        preset_text(str(tmp_path / "bad.yaml"))


def test_a_config_without_an_editor_names_init(tmp_path: Path) -> None:
    path = tmp_path / "guardset.yaml"
    path.write_text("ingest: {licence: CC0-1.0}")
    with pytest.raises(FatalError, match="guardset init"):
        load_settings(path)


def test_relative_paths_are_below_the_configs_folder(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    path = tmp_path / "conf" / "guardset.yaml"
    path.write_text(
        "policies: mine\n"
        "ingest: {block_list: ../blocked.txt}\n"
        "editing:\n"
        "  locate: {source: manifest, manifest: regions.json}\n"
        "  edit: {model: ./editor}\n"
        "  certify: {recheck: none}\n"
        "export: {other_benchmarks: [bench]}\n"
    )
    settings = load_settings(path)
    folder = tmp_path / "conf"
    assert settings.policies == folder / "mine"
    assert settings.ingest.block_list == folder / "../blocked.txt"
    assert settings.editing.locate.manifest == folder / "regions.json"
    assert settings.editing.edit.model == str(folder / "editor")
    assert settings.export.other_benchmarks == (folder / "bench",)
