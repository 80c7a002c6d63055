"""Reads prompt files, a user's or those that a package ships."""

from importlib.resources.abc import Traversable
from pathlib import Path

from storage.errors import FatalError


def read_prompt(step: str, path: Path | None, shipped: Traversable) -> str:
    """The text of the user's prompt file, or else of the shipped one; raises FatalError for one that cannot be read or
    is empty."""
    try:
        text = (path or shipped).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise FatalError(f"Cannot read the prompt of {step}, {path}: {why}.") from error
    if not text:
        raise FatalError(f"The prompt of {step}, {path}, is empty. Write it, or take it out of the config.")
    return text
