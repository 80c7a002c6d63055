"""Settings from a file: what is wrong is named, and a workspace remembers what it was built with."""

import json
from pathlib import Path

import pytest

from flows.cli.settings_text import settings_yaml
from flows.settings import keep_settings, load_settings, settings_of
from micro.preset import preset
from storage.errors import FatalError
from tests.configs import write_config

EDITING = "editing: {locate: {model: m}, edit: {model: m}}\n"


def test_the_printed_settings_are_the_defaults(tmp_path):
    (tmp_path / "printed.yaml").write_text(settings_yaml())
    with pytest.raises(FatalError, match=r"blanks to be filled in: editing\.edit\.model\."):
        load_settings(tmp_path / "printed.yaml")
    filled = settings_yaml().replace("FILL IN", "m").replace('model: ""', "model: m").replace("model: ''", "model: m")
    (tmp_path / "filled.yaml").write_text(filled)
    (tmp_path / "short.yaml").write_text(EDITING)
    assert load_settings(tmp_path / "filled.yaml") == load_settings(tmp_path / "short.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "editing: {edit: {strenght: 0.5}}",
            r"editing\.edit\.strenght: unknown key .* did you mean `strength`\?",
        ),
        ("editing: {edit: {strength: 2}}", r"editing\.edit\.strength: must be at most 1, not 2"),
        (
            "editing: {locate: {source: boxes}, edit: {model: m}, certify: {recheck: none}}",
            r"used:\n  .*needs ingest\.columns\.boxes",
        ),
        (f"{EDITING}ingest: {{licence: FILL IN the licence}}", r"blanks to be filled in: ingest\.licence\."),
        ("foo: 1", "has foo, which no setting is called, and does not say how images are edited"),
        ("", "is empty, so it does not say how images are edited. `guardset init` writes a whole config"),
        ("- a", "must hold a mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, text, message):
    path = tmp_path / "guardset.yaml"
    path.write_text(text)
    with pytest.raises(FatalError, match=message):
        load_settings(path)


def test_a_missing_file_is_a_plain_sentence(tmp_path):
    with pytest.raises(FatalError, match="Cannot read the config"):
        load_settings(tmp_path / "gone.yaml")


def test_a_file_in_another_encoding_is_a_plain_sentence(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("threads: 2\n", encoding="utf-16")
    with pytest.raises(FatalError, match="not UTF-8"):
        load_settings(config)


def test_relative_paths_are_below_the_configs_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("below").mkdir()
    config = Path("below/guardset.yaml")
    raw = {
        "policies": "rules",
        "editing": {"locate": {"model": "./vlm", "prompt": "../words.txt"}, "edit": {"model": "hub/pipeline"}},
        "annotation": {"executable": "studio/bin/label-studio"},
        "export": {"other_benchmarks": ["seen", "/elsewhere"]},
    }
    config.write_text(json.dumps(raw))  # JSON is YAML
    found = load_settings(config)
    assert found.policies == tmp_path / "below" / "rules"
    assert found.editing.locate.model == str(tmp_path / "below" / "vlm")
    assert found.editing.locate.prompt.resolve() == tmp_path / "words.txt"
    assert found.annotation.executable == tmp_path / "below" / "studio" / "bin" / "label-studio"
    assert found.editing.edit.model == "hub/pipeline"
    assert found.export.other_benchmarks == (tmp_path / "below" / "seen", Path("/elsewhere"))


def test_a_workspace_remembers_what_was_set_and_no_defaults(workspace, tmp_path):
    assert settings_of(workspace) is None
    for changes in ({}, {"annotation": {"overlap": 3}, "prices": {"m": {"image": 1.0}}}):
        keep_settings(workspace, preset(changes))
        assert settings_of(workspace) == preset(changes)
        assert load_settings(write_config(tmp_path / "same.yaml", changes)) == preset(changes)
    assert "min_votes" not in workspace.store.read("guardset.yaml").decode()
