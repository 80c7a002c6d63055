"""Ready configs to start from: those that ship here by name, and any other file."""

import json
import re
from importlib.resources import files
from pathlib import Path

import yaml

from flows.settings import BLANK
from storage.errors import FatalError

_FOLDER = files("flows.cli").joinpath("presets")


def preset_names() -> list[str]:
    """The presets that ship here."""
    return sorted(item.name.removesuffix(".yaml") for item in _FOLDER.iterdir() if item.name.endswith(".yaml"))


def preset_text(preset: str) -> str:
    """The config of a preset, by its name or file, with its comments.

    Paths in a file that begin with a dot are made absolute, since the copy stands elsewhere. Raises FatalError for a
    preset that does not exist.
    """
    if preset in preset_names():
        return _FOLDER.joinpath(f"{preset}.yaml").read_text(encoding="utf-8")
    path = Path(preset)
    try:
        text = path.read_text(encoding="utf-8")
        yaml.compose(text)
        return _made_absolute(text, path.absolute().parent)
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(preset_names())
        raise FatalError(f"There is no preset {preset}. Name one of {known}, or a YAML file.") from error
    except yaml.YAMLError as error:
        raise FatalError(f"{preset} is not valid YAML: {error}") from error


def _made_absolute(text: str, folder: Path) -> str:
    """The YAML text with each value that begins with ./ or ../ replaced by the path that it means below `folder`."""
    found = [token for token in yaml.scan(text) if isinstance(token, yaml.ScalarToken)]
    for token in reversed(found):
        if re.match(r"\.\.?/", token.value):
            start, end = token.start_mark.index, token.end_mark.index
            text = text[:start] + json.dumps(str((folder / token.value).resolve()), ensure_ascii=False) + text[end:]
    return text


def blanks_of(text: str) -> list[str]:
    """The lines of a config that hold a blank, shortened, for people."""
    lines = [line.split("#")[0].strip() for line in text.splitlines()]
    return [line for line in lines if BLANK in line]
