"""Settings from a file: what is wrong is named."""

import pytest

from flows.settings import Settings, load_settings
from flows.settings_text import settings_yaml
from storage.errors import FatalError


def test_the_printed_settings_are_the_defaults(tmp_path):
    path = tmp_path / "guardset.yaml"
    path.write_text(settings_yaml())
    assert load_settings(path) == Settings()


def test_no_file_means_the_defaults_and_an_empty_one_too(tmp_path):
    (tmp_path / "empty.yaml").write_text("")
    assert load_settings(None) == load_settings(tmp_path / "empty.yaml") == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "editing: {edit: {strenght: 0.5}}",
            r"editing\.edit\.strenght: unknown key .* did you mean `strength`\?",
        ),
        ("editing: {edit: {strength: 2}}", r"editing\.edit\.strength: Input should be less than or equal to 1"),
        ("editing: {locate: {source: boxes}}", r"used:\n  Value error, .*needs ingest\.columns\.boxes"),
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
