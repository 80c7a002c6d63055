"""What is wrong with a file that a person wrote, in words that say where and what to write instead."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from inspect import isclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError


def faults_of(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """One line for each fault: the place of the value, as keys joined by dots, and what is wrong with it.

    `model` is what the file was held against: an unknown key is answered with the one that was probably meant.
    """
    lines = []
    for fault in error.errors():
        unknown = fault["type"] == "extra_forbidden"
        words = _unknown_key(fault["loc"], model) if unknown else fault["msg"]
        if fault["type"] == "string_pattern_mismatch":
            words = f"{words}, which {fault['input']!r} does not"
        lines.append(": ".join([*filter(None, [".".join(map(str, fault["loc"]))]), words]))
    return lines


def _unknown_key(place: Sequence[int | str], model: type[BaseModel]) -> str:
    key, known = str(place[-1]), _keys_at(place[:-1], model)
    near = get_close_matches(key, known, n=1) or [path for path in _paths(model) if path.split(".")[-1] == key][:1]
    return f"unknown key `{key}`; " + (f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}")


def _keys_at(place: Sequence[int | str], model: type[BaseModel]) -> list[str]:
    """The keys that are allowed at a place. A part of it that is no field is an index, or a key of the user's own."""
    models = [model]
    for part in place:
        fields = [one.model_fields[part] for one in models if isinstance(part, str) and part in one.model_fields]
        models = [inner for field in fields for inner in models_in(field.annotation)] or models
    return [name for one in models for name in one.model_fields]


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models inside a type such as `dict[str, Model] | None`."""
    if isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from models_in(inner)


def _paths(model: type[BaseModel], before: str = "") -> Iterator[str]:
    """Every key of a model and of the models inside it, with its place; those of lists and mappings are left out."""
    for name, field in model.model_fields.items():
        yield before + name
        if isclass(field.annotation) and issubclass(field.annotation, BaseModel):
            yield from _paths(field.annotation, f"{before}{name}.")
