"""Adapters by name, or from a user's YAML file."""

import functools
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from guard.evaluation.adapters.declaration import Adapter
from storage.errors import FatalError
from storage.validation import faults_of, read_yaml

GUARDSET = "guardset"


@functools.cache
def load_adapter(name: str) -> Adapter:
    """A shipped adapter by name, or a YAML file by path; the file is read once in a process.

    Raises FatalError where there is none, or where it cannot be used.
    """
    shipped = files("guard.evaluation.adapters").joinpath("shipped", f"{name}.yaml")
    is_path = "/" in name or name.endswith((".yaml", ".yml"))
    path: Any = Path(name).expanduser() if is_path else shipped
    try:
        return Adapter.model_validate(read_yaml(path.read_text(encoding="utf-8"), str(name)))
    except OSError as error:
        known = ", ".join(adapter_names())
        raise FatalError(f"There is no adapter {name}. Name a YAML file, or one of: {known}.") from error
    except ValidationError as error:
        lines = "\n  ".join(faults_of(error, Adapter))
        raise FatalError(f"The adapter {name} cannot be used:\n  {lines}") from error


def adapter_names() -> list[str]:
    """The shipped ones, sorted."""
    folder = files("guard.evaluation.adapters").joinpath("shipped")
    return sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))
