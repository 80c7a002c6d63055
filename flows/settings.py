"""All settings in one frozen model, read from YAML. Each room defines its own part."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from annotation.settings import AnnotationSettings
from editing.settings import EditingSettings
from flows.engine.settings import Device, Engine, LimitSettings, RaySettings
from guard.evaluation.settings import EvaluationSettings
from guard.export.settings import GuardSettings
from models.metering import Prices
from recaption.settings import RecaptionSettings
from storage.damage import damaged
from storage.dedup import DedupSettings
from storage.errors import FatalError
from storage.ingest import IngestSettings
from storage.records.ids import sha256_hex
from storage.stage import Decides, How
from storage.validation import faults_of, read_yaml
from storage.workspace import Workspace

Checked = TypeVar("Checked", bound=BaseModel)

CONFIG = "guardset.yaml"
BLANK = "FILL IN"  # begins a value of a preset that only the user knows
_SEALED = re.compile(rb"# sha256: (.{64})\n")  # before what is kept: the hash of the rest
_KEPT = "# The settings that this workspace was built with. Commands use them unless --config names others.\n"


class Settings(BaseModel):
    """Everything a build depends on. What a model needs has no default: `guardset init` writes a whole config."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policies: Decides[Path | None] = Field(
        default=None,
        description="folder of policy files, with a vocabulary.yaml beside them; default: the shipped pack",
    )
    prices: How[dict[str, Prices]] = Field(
        default={},
        description="what each model costs, by its name here: {prompt, completion} per million tokens, {image} each",
    )
    threads: How[int] = Field(default=2, gt=0, description="shards of each stage in flight at once")
    keep_models: How[bool] = Field(
        default=False,
        description="leave all stages' models in memory, which must hold them together; default: one stage's at a time",
    )
    engine: How[Engine] = Field(
        default="local", description="where models run: local (this process) or ray (a cluster)"
    )
    device: How[Device] = Field(
        default="all",
        description="all: a process on each GPU of this machine that CUDA_VISIBLE_DEVICES leaves; one: the first GPU",
    )
    ray: RaySettings = RaySettings()
    limits: LimitSettings = LimitSettings()
    ingest: IngestSettings = IngestSettings()
    dedup: DedupSettings = DedupSettings()
    editing: EditingSettings
    recaption: RecaptionSettings | None = Field(default=None, description="leave out for pairs without recaptions")
    annotation: AnnotationSettings = AnnotationSettings()
    export: GuardSettings = GuardSettings()
    evaluate: EvaluationSettings = EvaluationSettings()

    @model_validator(mode="after")
    def _boxes_are_mapped(self) -> "Settings":
        if self.editing.locate.source == "boxes" and self.ingest.columns.boxes is None:
            raise ValueError("editing.locate.source: boxes needs ingest.columns.boxes, the column that holds them")
        return self


class EvaluationConfig(BaseModel):
    """A config that says nothing of builds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policies: Decides[Path | None] = None
    evaluate: EvaluationSettings = EvaluationSettings()


def load_settings(config: Path) -> Settings:
    """Settings from a YAML file; raises FatalError naming the field that is wrong.

    Relative paths in the file are taken from the file's folder, and so are models that are folders there.
    """
    return read_settings(_text(config), str(config), config.absolute().parent)


def load_evaluation(config: Path) -> Settings | EvaluationConfig:
    """As `load_settings`, also from a file that says nothing of builds."""
    raw = _mapping(_text(config), str(config))
    model: type[Settings | EvaluationConfig] = Settings if "editing" in raw else EvaluationConfig
    return _checked(model, raw, str(config), config.absolute().parent)


def _text(config: Path) -> str:
    try:
        return _decoded(config.read_bytes(), str(config))
    except OSError as error:
        raise FatalError(f"Cannot read the config {config}: {error.strerror}.") from error


def _decoded(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FatalError(f"The config {name} is not UTF-8 text. Save it as UTF-8.") from error


def read_settings(text: str, name: str, folder: Path) -> Settings:
    """Settings from YAML text that is called `name`; relative paths are taken from `folder`."""
    raw = _mapping(text, name)
    if "editing" not in raw:
        unknown = [str(key) for key in raw if key not in Settings.model_fields]
        also = "" if raw else "is empty, so it "
        if unknown:
            also = f"has {', '.join(unknown)}, which no setting is called, and "
        raise FatalError(f"{name} {also}does not say how images are edited. `guardset init` writes a whole config.")
    return _checked(Settings, raw, name, folder)


def _mapping(text: str, name: str) -> dict[str, Any]:
    """The YAML text as a mapping without blanks."""
    raw: Any = read_yaml(text, name) or {}
    if not isinstance(raw, dict):
        raise FatalError(f"{name} must hold a mapping such as `ingest: {{licence: CC-BY-4.0}}`.")
    blanks = [place for place, value in _scalars(raw) if isinstance(value, str) and value.startswith(BLANK)]
    if blanks:
        raise FatalError(f"{name} has blanks to be filled in: {', '.join(blanks)}.")
    return raw


def _checked(model: type[Checked], raw: Mapping[str, Any], name: str, folder: Path) -> Checked:
    """The model of a mapping, its relative paths below `folder`."""
    try:
        checked: Checked = _placed(model.model_validate(raw), folder)
    except ValidationError as error:
        lines = "\n  ".join(faults_of(error, model))
        raise FatalError(f"{name} has settings that cannot be used:\n  {lines}") from error
    return checked


def _scalars(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that holds no others, with the keys that lead to it."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if items is None:
        yield place, value
        return
    for key, inner in items:
        yield from _scalars(inner, f"{place}.{key}" if place else str(key))


def _placed(model: Any, folder: Path) -> Any:
    """The same settings with every relative path below `folder`, also that of a model which is a folder there."""
    changed: dict[str, Any] = {}
    is_here = getattr(model, "is_here", False)  # a server's model is called what the server calls it
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            changed[name] = _placed(value, folder)
        elif isinstance(value, tuple):
            changed[name] = tuple(
                _placed(one, folder) if isinstance(one, BaseModel) else _path(one, folder) for one in value
            )
        elif name == "model" and is_here and _is_folder(value, folder):
            changed[name] = str(Path(folder, value).resolve())
        else:
            changed[name] = _path(value, folder)
    different = {name: value for name, value in changed.items() if value != getattr(model, name)}
    return model.model_copy(update=different) if different else model


def _path(value: Any, folder: Path) -> Any:
    return Path(folder, value.expanduser()) if isinstance(value, Path) else value


def _is_folder(model: str, folder: Path) -> bool:
    return model.startswith(("./", "../")) or (model != "" and Path(folder, model).is_dir())


def settings_of(workspace: Workspace) -> Settings | None:
    """The settings that a workspace was built with; None where nothing was built."""
    if not workspace.store.exists(CONFIG):
        return None
    name = f"{workspace.store.root}/{CONFIG}"
    return read_settings(_decoded(_checked_config(workspace), name), name, Path.cwd())


def _checked_config(workspace: Workspace) -> bytes:
    """The file of the settings that a workspace keeps; raises FatalError when it is not what was written there."""
    data = workspace.store.read(CONFIG)
    sealed = _SEALED.match(data)
    if sealed is not None and sha256_hex(data[sealed.end() :]).encode() != sealed[1]:
        raise damaged(workspace.store.root, CONFIG, "its content is not what its first line says")
    return data


def keep_settings(workspace: Workspace, settings: Settings) -> None:
    """Let the workspace remember what it is built with: what was set, paths made absolute."""
    values = settings.model_dump(mode="json", exclude_unset=True)
    data = (_KEPT + yaml.safe_dump(values, sort_keys=False, allow_unicode=True)).encode()
    workspace.replace(CONFIG, f"# sha256: {sha256_hex(data)}\n".encode() + data)
