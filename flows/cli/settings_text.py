"""All settings as commented YAML: what `guardset settings` prints."""

from collections.abc import Iterator, Mapping
from typing import Any, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows.settings import BLANK, Settings
from storage.stage import Role, role_of
from storage.validation import models_in

_HEAD = """\
# Every setting, with its default and its reason. `guardset init` writes a config that works; take from here what it
# lacks. A setting marked [how] changes no result. What is commented out is off by default; FILL IN has no default.
"""


def settings_yaml() -> str:
    """Every setting with its default; a comment above it says what it is for. Parts that are off by default, and the
    entries of lists, are shown as comments."""
    return _HEAD + "\n".join(_lines(Settings, 0, "")) + "\n"


def _lines(model: type[BaseModel], depth: int, mark: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield from _setting(name, field, depth, mark)


def _setting(name: str, field: FieldInfo, depth: int, mark: str) -> Iterator[str]:
    indent = mark + "  " * depth
    inner = next(iter(models_in(field.annotation)), None)
    if inner is None:
        yield from _comment(field, indent)
        yield f"{indent}{name}: {_default(field)}"
    elif isinstance(field.annotation, type):
        yield from _comment(field, indent, inner)
        yield f"{indent}{name}:"
        yield from _lines(inner, depth + 1, mark)
    else:
        yield from _optional(name, field, inner, depth, mark)


def _optional(name: str, field: FieldInfo, inner: type[BaseModel], depth: int, mark: str) -> Iterator[str]:
    """A part that is absent by default, and what it may hold."""
    indent, off = mark + "  " * depth, mark or "# "
    yield from _comment(field, indent, inner)
    kind = get_origin(field.annotation)
    if kind is tuple:
        yield f"{indent}{name}: []"
        yield f"{off}{'  ' * depth}{name}:"
        yield f"{off}{'  ' * (depth + 1)}- # one for each"
        yield from _lines(inner, depth + 2, off)
    elif kind is not None and issubclass(kind if isinstance(kind, type) else object, Mapping):
        yield f"{indent}{name}: {{}}"
        yield f"{off}{'  ' * depth}{name}:"
        yield f"{off}{'  ' * (depth + 1)}<name>:"
        yield from _lines(inner, depth + 2, off)
    else:
        if not mark:
            yield f"{indent}{name}: null"
        yield f"{off}{'  ' * depth}{name}:"
        yield from _lines(inner, depth + 1, off)


def _comment(field: FieldInfo, indent: str, inner: type[BaseModel] | None = None) -> Iterator[str]:
    words = field.description or (inner.__doc__ or "").strip().split("\n")[0]
    if role_of(field) is Role.HOW:
        words = f"{words} [how]"
    if words:
        yield f"{indent}# {words}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return BLANK
    value: Any = field.get_default(call_default_factory=True)
    plain = list(value) if isinstance(value, tuple) else str(value) if hasattr(value, "__fspath__") else value
    return yaml.safe_dump(plain, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
