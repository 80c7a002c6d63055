"""All settings as commented YAML: what `guardset settings` prints, and a config file to start from."""

from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel

from flows.settings import Settings


def settings_yaml() -> str:
    """Every setting with its default; a comment above it says what it is for."""
    return "\n".join(_lines(Settings(), 0)) + "\n"


def _lines(model: BaseModel, depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(value, depth + 1)
        else:
            if field.description:
                yield f"{indent}# {field.description}"
            yield f"{indent}{name}: {_scalar(model, name)}"


def _scalar(model: BaseModel, name: str) -> str:
    value: Any = model.model_dump(mode="json", include={name})[name]
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
