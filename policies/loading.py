"""From a folder to a `PolicySet`: `vocabulary.yaml`, a file for each policy, and other wordings in `paraphrases/`."""

from collections import Counter
from collections.abc import Sequence
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from policies.checking import logical_faults
from policies.engine import Policy, PolicySet
from policies.people import NEVER_DRAWN, named_in
from policies.phrases import COUNTS, FUNCTION, POSITIONS, WORD
from policies.vocabulary import Attribute, Vocabulary
from policies.wording import Wordings
from storage.errors import FatalError
from storage.validation import faults_of, read_yaml

VOCABULARY = "vocabulary.yaml"
DEFAULT_PACK = "paper"
Model = TypeVar("Model", bound=BaseModel)
_COMMON = FUNCTION.union(COUNTS, *(position.split() for position in POSITIONS))


class _VocabularyFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    attributes: tuple[Attribute, ...] = Field(min_length=1)


class _CategoriesFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    policy: str
    dataset: str
    column: str
    rules: dict[str, str] = Field(min_length=1)


def load_policy_set(folder: str | Path | Traversable | None = None) -> PolicySet:
    """Every policy `*.yaml` of a folder, sorted by id, with the vocabulary beside them; default: the shipped pack.

    A folder without a `vocabulary.yaml` speaks of the shipped pack's attributes. Hidden files are no policies. Raises
    FatalError naming the file, the entry and what is wrong with it.
    """
    root = _pack() if folder is None else Path(folder) if isinstance(folder, str) else folder
    if root.is_file():
        raise FatalError(f"{folder} is a file. Give the folder that holds it.")
    if not root.is_dir():
        raise FatalError(f"The policy folder {folder} does not exist.")
    vocabulary, origin = _vocabulary(root)
    files_by_id: dict[str, str] = {}
    policies = []
    for name in _yaml_files(root):
        policy = _policy(root.joinpath(name), vocabulary, origin)
        other = files_by_id.setdefault(policy.id, name)
        if other != name:
            raise FatalError(f"{root}: {other} and {name} have the same id {policy.id}. Give each its own.")
        policies.append(policy)
    if not policies:
        raise FatalError(f"{root} holds no policy (*.yaml). {_pack()} shows the form of one.")
    policies.sort(key=lambda policy: policy.id)
    return PolicySet(vocabulary, tuple(policies), _wordings(root, policies, vocabulary), _categories(root, policies))


def load_pack(name: str) -> PolicySet:
    """A shipped pack, by its folder's name."""
    return load_policy_set(_pack(name))


def _yaml_files(folder: Traversable) -> list[str]:
    """Without hidden files: macOS puts a `._House.yaml` beside a copied House.yaml."""
    names = [path.name for path in folder.iterdir() if not path.name.startswith(".") and path.name != VOCABULARY]
    return sorted(name for name in names if name.lower().endswith((".yaml", ".yml")))


def _pack(name: str = DEFAULT_PACK) -> Traversable:
    return files("policies").joinpath("packs", name)


def _vocabulary(root: Traversable) -> tuple[Vocabulary, str]:
    """The folder's vocabulary, or the shipped one, and where it was read."""
    path = root.joinpath(VOCABULARY)
    if not path.is_file():
        misnamed = [n for n in _yaml_files(root) if Path(n).stem.lower() in ("attributes", "vocabulary")]
        if misnamed:
            raise FatalError(f"{root}/{misnamed[0]} is not read. Rename it to {VOCABULARY}.")
        path = _pack().joinpath(VOCABULARY)
    attributes = _read(path, _VocabularyFile).attributes
    ids = Counter(a.id for a in attributes)
    twice = next((i for i, count in ids.items() if count > 1), None)
    if twice is not None:
        raise FatalError(f"{path} has two attributes with the id {twice}. Give each its own.")
    for attribute in attributes:
        lost = next((name for name in attribute.is_a if name not in ids), None)
        if lost is not None:
            raise FatalError(f"{path}: attribute {attribute.id} is_a {lost}, which the vocabulary does not have.")
    try:
        TopologicalSorter({a.id: a.is_a for a in attributes}).prepare()
    except CycleError as error:
        raise FatalError(f"{path}: is_a goes in a circle: {' -> '.join(error.args[1])}. Take one out.") from error
    vocabulary = Vocabulary(attributes)
    shared = vocabulary.shared_words()
    if shared:
        word, owners = next(iter(shared.items()))
        raise FatalError(
            f"{path}: {word!r} names both {owners[0]} and {owners[1]}, as it is or as a plural. Keep it at one of them."
        )
    _try_drawable(vocabulary, path)
    _try_words(vocabulary, path)
    _try_exclusions(vocabulary, path)
    return vocabulary, str(path)


def _try_drawable(vocabulary: Vocabulary, path: Traversable) -> None:
    for attribute in (a for a in vocabulary.values() if a.drawable):
        kin = vocabulary.kinds(attribute.id) | vocabulary.general(attribute.id)
        word = named_in((word for name in sorted(kin) for word in vocabulary[name].words), NEVER_DRAWN)
        if word or not vocabulary.minors.isdisjoint(kin):
            raise FatalError(
                f"{path}: attribute {attribute.id} is marked drawable, and {word or 'a minor'} is no harmless object: "
                "nudity, sexual content, injuries and people are never drawn. Take the mark out."
            )


def _try_exclusions(vocabulary: Vocabulary, path: Traversable) -> None:
    for attribute in vocabulary.values():
        alone = Vocabulary((attribute.model_copy(update={"excludes": (), "is_a": ()}),))
        for phrase in attribute.excludes:
            if vocabulary.named(phrase) == attribute.id:
                raise FatalError(f"{path}: attribute {attribute.id}: not {phrase!r}, which is its own word.")
            if not alone.mentioned(phrase):
                raise FatalError(
                    f"{path}: attribute {attribute.id}: not {phrase!r}, which holds none of its words. Take it out."
                )


def _try_words(vocabulary: Vocabulary, path: Traversable) -> None:
    """Holds each word against sentences, as the certificate of a recaption will."""
    for attribute in vocabulary.values():
        for word in attribute.words:
            if _COMMON.issuperset(WORD.findall(word.lower().rstrip(".!? "))):  # as words are compared
                raise FatalError(
                    f"{path}: attribute {attribute.id}: any sentence may say {word!r}. Choose another word."
                )
            sentence = f"There is a {word} in the upper left."
            named = vocabulary.mentioned(sentence)
            if named != {attribute.id}:
                raise FatalError(
                    f"{path}: attribute {attribute.id}: {sentence!r} names {', '.join(sorted(named)) or 'nothing'}, "
                    f"not {attribute.id} alone. Change {word!r} or the word that is in its way."
                )


def _policy(path: Traversable, vocabulary: Vocabulary, origin: str) -> Policy:
    policy = _read(path, Policy)
    for rule in policy.rules:
        for attribute in rule.named:
            if attribute not in vocabulary:
                near = vocabulary.named(attribute) or next(iter(get_close_matches(attribute, list(vocabulary))), "")
                meant = f"Did you mean {near}? " if near else ""
                raise FatalError(
                    f"{path}: rule {rule.id} names the attribute {attribute}, which {origin} does not have. "
                    f"{meant}Add it to the {VOCABULARY} beside your policies: "
                    f"{{id: {attribute}, noun: ..., sensitive: true}}."
                )
    fault = next(logical_faults(policy, vocabulary), None)
    if fault is not None:
        raise FatalError(f"{path}: {fault}")
    return policy


def _wordings(root: Traversable, policies: Sequence[Policy], vocabulary: Vocabulary) -> dict[str, tuple[str, ...]]:
    """The full texts of each policy's other wordings, by its id."""
    folder = root.joinpath("paraphrases")
    by_name = {f"{policy.id}.yaml": policy for policy in policies}
    texts: dict[str, tuple[str, ...]] = {policy.id: () for policy in policies}
    for name in _yaml_files(folder) if folder.is_dir() else ():
        path = folder.joinpath(name)
        if name not in by_name:
            raise FatalError(f"{path} belongs to no policy. Name it after one's id: {', '.join(by_name)}.")
        read = _read(path, Wordings)
        faults = read.faults(by_name[name], vocabulary)
        if faults:
            raise FatalError(f"{path}: {faults[0]}")
        texts[by_name[name].id] = tuple(wording.text for wording in read.wordings)
    return texts


def _categories(root: Traversable, policies: Sequence[Policy]) -> dict[str, dict[str, str]]:
    """What a data set calls each policy's rules, from `categories/`, by the policy's id."""
    folder, found = root.joinpath("categories"), dict[str, dict[str, str]]()
    rules = {policy.id: {rule.id for rule in policy.rules} for policy in policies}
    for name in _yaml_files(folder) if folder.is_dir() else ():
        read = _read(folder.joinpath(name), _CategoriesFile)
        lost = sorted(set(read.rules.values()) - rules.get(read.policy, set()))
        if lost:
            raise FatalError(f"{folder.joinpath(name)} names the rule {read.policy}.{lost[0]}, which is not there.")
        found[read.policy] = read.rules
    return found


def _read(path: Traversable, model: type[Model]) -> Model:
    try:
        raw = read_yaml(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise FatalError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise FatalError(f"{path} is not UTF-8 text. Save it as UTF-8.") from error
    if not isinstance(raw, dict):
        needed = ", ".join(name for name, field in model.model_fields.items() if field.is_required())
        raise FatalError(f"{path} must hold a mapping with the keys {needed}.")
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        raise FatalError(f"{path}: {'; '.join(faults_of(error, model, raw)[:3])}.") from error
