"""The command line: plain sentences, exit statuses, help with examples."""

import importlib
import subprocess
import sys

import pytest
import stamina
from cyclopts import App

from flows.cli.doctor import examine
from flows.cli.main import _COMMANDS, _guarded, app
from flows.cli.steps import progress, settings_from
from flows.pipeline import decided
from flows.settings import keep_settings
from micro import PRESET
from micro.preset import preset
from micro.world import WORLD
from storage.errors import FatalError, TransientError
from tests.configs import write_config


def test_an_error_is_a_sentence_and_status_1(capsys):
    def fail():
        raise FatalError("The disk is full. Free some space.")

    assert _guarded(fail) == 1
    assert "Stopped. The disk is full. Free some space." in capsys.readouterr().out


def test_a_passing_trouble_says_that_the_same_command_goes_on(capsys):
    def fail():
        raise TransientError("The server is busy.")

    assert _guarded(fail) == 1
    assert "The same command resumes" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("folder", ["file/below", "file"])
def test_a_place_that_cannot_be_written_is_a_sentence(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("")
    command = ["build", "-i", str(tmp_path / "photos"), "-w", str(tmp_path / folder), "-c", str(PRESET)]
    assert _guarded(lambda: app(command, result_action="return_value")) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "Stopped." in said
    assert "Not a directory" in said
    assert str(tmp_path / "file") in said.replace(" ", "")


def test_other_errors_of_the_system_keep_their_traceback():
    def fail():
        raise ConnectionResetError(104, "Connection reset by peer")

    with pytest.raises(ConnectionResetError):
        _guarded(fail)


def test_ctrl_c_says_that_nothing_is_lost(capsys):
    def interrupt():
        raise KeyboardInterrupt

    assert _guarded(interrupt) == 130
    assert "Nothing is lost" in capsys.readouterr().out


@pytest.mark.parametrize("stop", [KeyboardInterrupt, lambda: FatalError("The disk [of guardset[ray]] is full.")])
def test_a_stopped_build_says_what_happened_and_then_how_it_goes_on(stop, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise stop()

    monkeypatch.setattr("flows.cli.commands.building.run_build", interrupted)
    command = ["guardset", "build", "-i", "my photos", "-w", "ws", "-c", str(PRESET)]
    monkeypatch.setattr("sys.argv", command)
    assert _guarded(lambda: app(command[1:], result_action="return_value")) in (1, 130)
    happened, go_on = capsys.readouterr().out.splitlines()
    assert happened.startswith("Stopped")
    assert ("by you" in happened) or ("The disk [of guardset[ray]] is full." in happened)  # brackets are no markup
    how = "To go on" if "by you" in happened else "Once that is mended"
    assert go_on == f"{how}: guardset build -i 'my photos' -w ws -c {PRESET}"


def test_a_command_without_a_config_uses_what_the_workspace_was_built_with(workspace):
    root = workspace.store.root
    workspace.write_json("something.json", {})
    with pytest.raises(FatalError, match="holds no settings yet, and there is no --config"):
        settings_from(root, None)
    keep_settings(workspace, preset())
    assert settings_from(root, None) == preset()


def test_a_workspace_that_is_not_there_is_named(tmp_path):
    for command in ("status", "collect", "export", "publish"):
        with pytest.raises(FatalError, match=r"The workspace \S*/typo does not exist, .* Correct --workspace;"):
            app([command, "--workspace", str(tmp_path / "typo")], result_action="return_value")
    assert not (tmp_path / "typo").exists()


def test_a_config_that_differs_says_which_stages_it_decides_otherwise(workspace, tmp_path, capsys):
    keep_settings(workspace, preset())
    record = {"decided": decided(preset(), WORLD), "policies": {policy.id: policy.content_hash for policy in WORLD}}
    workspace.write_json("builds/b.json", record)
    workspace.write_json("builds/latest.json", {"build_id": "b"})
    changes = {"threads": 5, "editing": {"edit": {"feather_px": 1}}}
    assert settings_from(workspace.store.root, write_config(tmp_path / "other.yaml", changes)) == preset(changes)
    assert "what decides edit, certify differs from the last build" in " ".join(capsys.readouterr().out.split())
    settings_from(workspace.store.root, write_config(tmp_path / "same.yaml", {"threads": 5}))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("command", ["build", "collect", "export", "status", "doctor", "init", "settings", "evaluate"])
def test_every_command_has_help_with_an_example(command, capsys):
    with pytest.raises(SystemExit) as caught:
        app([command, "--help"])
    assert caught.value.code == 0
    assert f"guardset {command}" in capsys.readouterr().out


def test_help_imports_no_heavy_library():
    code = "import sys, flows.cli.main; print([m for m in ('torch', 'prefect', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_doctor_names_what_is_missing_and_what_to_do(tmp_path):
    settings = preset(
        {
            "policies": str(tmp_path / "none"),
            "editing": {"edit": {"model": str(tmp_path / "no-model")}},
            "annotation": {"url": "http://127.0.0.1:1", "token_env": "GUARDSET_TEST_NO_TOKEN"},
        }
    )
    checks = {check.name: check for check in examine(settings, str(tmp_path / "ws"))}
    assert not checks["python"].advice
    assert not checks["packages"].advice
    assert "does not exist" in checks["policies"].advice
    assert "does not exist" in checks["edit model"].advice
    assert "GUARDSET_TEST_NO_TOKEN" in checks["label studio"].advice
    assert not checks["workspace"].advice
    (tmp_path / "file").write_text("")
    below_a_file = {check.name: check for check in examine(settings, str(tmp_path / "file"))}
    assert "is a file" in below_a_file["workspace"].advice
    assert not (tmp_path / "ws").exists()


def test_what_is_tried_again_is_said(capsys):
    attempts = []

    @stamina.retry(on=TransientError, attempts=2, wait_initial=0.0, wait_jitter=0.0)
    def flaky():
        attempts.append(1)
        if len(attempts) == 1:
            raise TransientError("The server [busy] did not answer.")

    with progress():
        flaky()
    assert "The server [busy] did not answer. Trying again in 0 s." in capsys.readouterr().out


def test_a_commands_first_sentence_is_the_same_in_both_helps():
    for place, sentence in _COMMANDS.items():
        module, name = place.split(":")
        command = getattr(importlib.import_module(f"flows.cli.commands.{module}"), name)
        assert sentence == (command.help if isinstance(command, App) else command.__doc__.split("\n")[0])
