"""What is wrong with a file that a person wrote, in words that say where and what to write instead."""

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from inspect import isclass
from typing import Any, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ValidationError
from pydantic_core import ErrorDetails

from storage.errors import FatalError

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# By the type of pydantic's error; what it says of itself may be filled in.
_SAYS = {
    "missing": "is missing",
    "string_too_short": "must not be empty",
    "too_short": "must hold {min_length} or more",
    "string_type": "must be text",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must hold keys and values",
    "model_type": "must hold keys and values",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "literal_error": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_pattern_mismatch": "must match {pattern}",
    "value_error": "{error}",
}
_TELLING = frozenset({"missing", "string_too_short", "too_short", "value_error"})  # need not say what was given


def read_yaml(text: str, name: str) -> Any:
    """The value of a YAML text that is called `name`; None when it is empty.

    Raises FatalError with the line of a key that is given twice, or of what is no YAML.
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            _check_keys(node, name)
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = f" (line {error.problem_mark.line + 1})" if error.problem_mark else ""
        raise FatalError(f"{name} is not valid YAML{line}: {error.problem}.") from error
    except (yaml.YAMLError, ValueError) as error:  # a date such as 2020-13-01 is a ValueError
        raise FatalError(f"{name} is not valid YAML: {' '.join(str(error).split())}.") from error


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Whatever is wrong with an entry of somebody else's file as a ValueError that says which entry it is."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"{what} lacks {error}") from error
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    except (TypeError, AttributeError, IndexError, ArithmeticError) as error:
        raise ValueError(f"{what} has another form than the one that is read here ({error})") from error


def read_json(text: str) -> Any:
    """The value of somebody else's JSON; raises ValueError for what is none, also for lists too deep inside lists."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not valid JSON ({error.msg} at character {error.pos + 1})") from error
    except RecursionError as error:
        raise ValueError("its JSON holds values too deep inside each other") from error


def _check_keys(root: yaml.Node | None, name: str) -> None:
    """YAML's own reader keeps the last of two equal keys and says nothing."""
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop()
        if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
            continue
        seen.add(id(node))  # an anchor may stand in several places, even in itself
        if isinstance(node, yaml.SequenceNode):
            waiting += node.value
            continue
        lines: dict[str, int] = {}
        for key, value in node.value:
            waiting.append(value)
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if key.value in lines:
                    raise FatalError(
                        f"{name} gives the key `{key.value}` twice, in line {lines[key.value]} and in line {line}. "
                        f"Keep one of them."
                    )
                lines[key.value] = line


def formed(pattern: str, says: str) -> AfterValidator:
    """Holds an id against a pattern; `says` describes the same to a person."""

    def checked(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"must be {says}, not {value!r}")
        return value

    return AfterValidator(checked)


def faults_of(error: ValidationError, model: type[BaseModel], raw: Any = None) -> list[str]:
    """One line for each fault: the place of the value, and what is wrong with it.

    `model` is what the file was held against: an unknown key is answered with the one that was probably meant. With
    `raw`, what the file holds, an entry of a list is named by its id instead of its number, which counts from one.
    """
    lines = []
    for fault in error.errors():
        if fault["type"] == "too_short" and len(fault["input"]) >= fault["ctx"]["min_length"]:
            continue  # its entries are at fault, and named
        words = _unknown_key(fault["loc"], model) if fault["type"] == "extra_forbidden" else _words(fault)
        lines.append(": ".join([*filter(None, [_place(fault["loc"], raw)]), words]))
    return lines


def _words(fault: ErrorDetails) -> str:
    kind, given = fault["type"], fault["input"]
    if kind not in _SAYS:
        return fault["msg"]
    limits = {key: f"{value:g}" if isinstance(value, float) else value for key, value in fault.get("ctx", {}).items()}
    words = _SAYS[kind].format(**limits)
    if given is None and kind not in ("missing", "value_error"):
        return f"{words}, and nothing is there"
    if kind == "string_type" and not isinstance(given, dict | list):
        return f"{words}; put quotes around it, since YAML reads {given!r}"
    if kind in ("list_type", "tuple_type") and isinstance(given, str):
        return f"{words}, such as [{given}]"
    return words if kind in _TELLING else f"{words}, not {given!r}"


def _place(keys: Sequence[int | str], raw: Any) -> str:
    """Keys joined by dots, and an entry of `rules` as "rule R1" or "rule 2"."""
    said, joint = "", ""
    for key in keys:
        try:
            raw = raw[key]
        except (KeyError, IndexError, TypeError):  # an alternative of a union, which the file does not spell out
            raw = None
        if isinstance(key, int):
            name = raw.get("id") if isinstance(raw, dict) else None
            said, joint = f"{said.removesuffix('s')} {name if isinstance(name, str) else key + 1}", ", "
        else:
            said, joint = f"{said}{joint}{key}", "."
    return said


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


def printable(text: str) -> str:
    """Text from outside without what moves a terminal's cursor, colours it, or turns the direction of writing."""
    return "".join(c if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else "\ufffd" for c in text)


def valid_text(text: str) -> str:
    """Text from outside as valid Unicode: the two halves of a sign are joined, a half that stands alone is replaced,
    since neither files nor databases can hold it."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
