"""From a folder to a `PolicySet`: `vocabulary.yaml`, a file for each policy, and other wordings in `paraphrases/`."""

from difflib import get_close_matches
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from policies.engine import Policy, PolicySet
from policies.vocabulary import Attribute, Vocabulary
from policies.wording import Wordings
from storage.errors import FatalError
from storage.validation import faults_of

VOCABULARY = "vocabulary.yaml"
DEFAULT_PACK = "paper"
Model = TypeVar("Model", bound=BaseModel)


class _VocabularyFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int = 1
    attributes: tuple[Attribute, ...] = Field(min_length=1)


def load_policy_set(folder: str | Path | None = None) -> PolicySet:
    """Every policy `*.yaml` of a folder, sorted by id, with the vocabulary beside them; default: the shipped pack.

    A folder without a `vocabulary.yaml` speaks of the shipped pack's attributes. Raises FatalError naming the file and
    the place where something is wrong: a field, an id used twice, an attribute that the vocabulary does not have.
    """
    root = _pack() if folder is None else Path(folder)
    if not root.is_dir():
        raise FatalError(f"The policy folder {folder} does not exist.")
    vocabulary, origin = _vocabulary(root)
    names = sorted(p.name for p in root.iterdir() if p.name.endswith((".yaml", ".yml")) and p.name != VOCABULARY)
    policies = tuple(sorted((_policy(root.joinpath(n), vocabulary, origin) for n in names), key=lambda p: p.id))
    ids = [p.id for p in policies]
    if not policies:
        raise FatalError(f"{root} holds no policy (*.yaml). {_pack()} shows the form of one.")
    if len(set(ids)) != len(ids):
        raise FatalError(f"Two policy files of {root} have the same id ({', '.join(ids)}). Give each its own.")
    return PolicySet(vocabulary, policies, {p.id: _wordings(root, p, vocabulary) for p in policies})


def _pack() -> Traversable:
    return files("policies").joinpath("packs", DEFAULT_PACK)


def _vocabulary(root: Traversable) -> tuple[Vocabulary, str]:
    """The folder's vocabulary, or the shipped one, and where it was read."""
    path = root.joinpath(VOCABULARY)
    if not path.is_file():
        misnamed = [n for n in ("attributes.yaml", "attributes.yml", "vocabulary.yml") if root.joinpath(n).is_file()]
        if misnamed:
            raise FatalError(f"{root}/{misnamed[0]} is not read. Rename it to {VOCABULARY}.")
        path = _pack().joinpath(VOCABULARY)
    attributes = _read(path, _VocabularyFile).attributes
    ids = [a.id for a in attributes]
    twice = next((i for i in ids if ids.count(i) > 1), None)
    if twice is not None:
        raise FatalError(f"{path} has two attributes with the id {twice}. Give each its own.")
    vocabulary = Vocabulary(attributes)
    shared = vocabulary.shared_words()
    if shared:
        word, owners = next(iter(shared.items()))
        raise FatalError(f"{path}: {word!r} names both {owners[0]} and {owners[1]}. Keep it at one of them.")
    return vocabulary, str(path)


def _policy(path: Traversable, vocabulary: Vocabulary, origin: str) -> Policy:
    policy = _read(path, Policy)
    for rule in policy.rules:
        for attribute in (*rule.unsafe_when, *rule.unless):
            if attribute not in vocabulary:
                near = vocabulary.named(attribute) or next(iter(get_close_matches(attribute, list(vocabulary))), "")
                meant = f"Did you mean {near}? " if near else ""
                raise FatalError(
                    f"{path}: rule {rule.id} names the attribute {attribute}, which {origin} does not have. "
                    f"{meant}Add it to the {VOCABULARY} beside your policies: "
                    f"{{id: {attribute}, noun: ..., sensitive: true}}."
                )
    return policy


def _wordings(root: Traversable, policy: Policy, vocabulary: Vocabulary) -> tuple[str, ...]:
    path = root.joinpath("paraphrases", f"{policy.id}.yaml")
    if not path.is_file():
        return ()
    read = _read(path, Wordings)
    faults = read.faults(policy, vocabulary)
    if faults:
        raise FatalError(f"{path}: {faults[0]}")
    return tuple(wording.text for wording in read.wordings)


def _read(path: Traversable, model: type[Model]) -> Model:
    try:
        raw: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            needed = ", ".join(name for name, field in model.model_fields.items() if field.is_required())
            raise FatalError(f"{path} must hold a mapping with the keys {needed}.")
        return model.model_validate(raw)
    except OSError as error:
        raise FatalError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise FatalError(f"{path} is not UTF-8 text. Save it as UTF-8.") from error
    except yaml.YAMLError as error:
        raise FatalError(f"{path} is not valid YAML: {error}") from error
    except ValidationError as error:
        raise FatalError(f"{path}: {'; '.join(faults_of(error, model)[:3])}") from error
