"""Every setting says whether it decides an output, and the keys of the stages believe it."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from flows.cli.settings_text import settings_yaml
from flows.pipeline import ready_stages
from flows.settings import Settings
from guard.evaluation.plan import EvaluateOptions
from guard.evaluation.stages import EVALUATE, Asking
from policies.engine import PolicySet
from policies.loading import load_policy_set
from storage.errors import FatalError
from storage.stage import Role, role_of
from storage.validation import models_in

SERVER = {"base_url": "http://127.0.0.1:1/v1"}
CHAT = {"model": "hub/vlm", "server": SERVER}
BASES: dict[str, dict[str, Any]] = {
    "served": {
        "editing": {
            "locate": {**CHAT, "box_units": "thousandths"},
            "edit": {"model": "images", "size_px": 512, "endpoint": SERVER},
            "certify": {"questions": ["Is it gone?"]},
        },
        "recaption": {"caption": CHAT, "rewrite": CHAT},
        "evaluate": {
            "models": [{"name": "guard", **CHAT}],
            "benchmarks": [{"name": "bench", "data": "somewhere"}],
        },
        "prices": {"hub/vlm": {"prompt": 1.0}},
        "ray": {"stages": {"edit": {"workers": 2}}},
    },
    "in process": {
        "editing": {"locate": {"model": "hub/vlm", "box_units": "fractions"}, "edit": {"model": "hub/pipeline"}},
        "recaption": {"caption": {"model": "hub/vlm"}, "rewrite": {"model": "hub/llm"}},
        "evaluate": {
            "models": [{"name": "guard", "model": "hub/vlm"}],
            "benchmarks": [{"name": "bench", "data": "somewhere"}],
        },
    },
    "detector": {
        "editing": {"locate": {"source": "detector", "model": "hub/owl"}, "edit": {"model": "opencv-telea"}},
    },
    "manifest": {
        "editing": {
            "locate": {"source": "manifest", "manifest": "regions.json", "label_map": {"a": "knife"}},
            "edit": {"model": "opencv-telea"},
            "certify": {"recheck": "none"},
        },
    },
}
# What decides which rows go in, what people are asked, or what an export or a table holds: no stage's result.
PLANS = (
    "editing.edit.target_policies", "editing.controls.", "recaption.second_look", "recaption.caption_edited",
    "annotation.", "export.", "evaluate.benchmarks", "evaluate.reruns", "evaluate.blind", "evaluate.name_rules",
    "evaluate.paraphrases", "evaluate.resamples", "evaluate.seed", "evaluate.models.0.name",
    "evaluate.models.0.mapping", "policies",
)  # fmt: skip


@pytest.fixture
def bases(tmp_path: Path) -> dict[str, Settings]:
    """The base settings; files that they name are there."""
    images, categories = [{"id": 1, "file_name": "a"}], [{"id": 1, "name": "a"}]
    regions = [{"image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}]
    marked = {"images": images, "annotations": regions, "categories": categories}
    (tmp_path / "regions.json").write_text(json.dumps(marked))
    other = {"images": images, "annotations": [], "categories": []}
    (tmp_path / "other.json").write_text(json.dumps(other))
    (tmp_path / "blocked.txt").write_text("sha256:" + "0" * 64)
    (tmp_path / "prompt.txt").write_text("Other words: {caption} {findings} {answer} {problems} {attributes}")
    raw = {name: dict(base) for name, base in BASES.items()}
    raw["manifest"]["editing"]["locate"]["manifest"] = tmp_path / "regions.json"
    return {name: Settings.model_validate(base) for name, base in raw.items()}


Leaf = tuple[str, Any, FieldInfo]


def leaves(model: BaseModel, before: str = "") -> Iterator[Leaf]:
    """Every setting that holds no others, with its place and its value."""
    for name, field in type(model).model_fields.items():
        value, place = getattr(model, name), f"{before}{name}"
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{place}.")
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            yield from leaves(value[0], f"{place}.0.")
        elif not (models_in_of(field) and value in (None, ())):
            yield place, value, field


def models_in_of(field: FieldInfo) -> list[type[BaseModel]]:
    return list(models_in(field.annotation))


def classes(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model and every model that its fields may hold."""
    yield model
    for field in model.model_fields.values():
        for inner in models_in_of(field):
            yield from classes(inner)


def test_every_setting_decides_an_output_or_says_how_it_is_reached():
    unmarked = [
        f"{model.__name__}.{name}"
        for model in classes(Settings)
        for name, field in model.model_fields.items()
        if model.__name__ != "Prices" and role_of(field) is None and not models_in_of(field)
    ]
    assert unmarked == []


def test_every_setting_has_a_reason_and_is_printed():
    printed = {line.strip("#- ").split(":")[0].strip() for line in settings_yaml().splitlines()}
    for model in classes(Settings):
        for name, field in model.model_fields.items():
            assert name in printed, f"{model.__name__}.{name}"
            assert field.description or models_in_of(field), f"{model.__name__}.{name} has no description"


def others(value: Any, field: FieldInfo, folder: Path, place: str) -> Iterator[Any]:
    """Values that a setting might have instead; not all need be valid."""
    options = [option for option in (get_args(field.annotation) or (field.annotation,)) if option is not type(None)]
    if get_origin(field.annotation) is Literal:
        options = [field.annotation]
    options = [get_args(option)[0] if get_origin(option) is Annotated else option for option in options]
    for option in options:
        if get_origin(option) is Literal or isinstance(option, str):
            choices = get_args(option) or tuple(o for o in options if isinstance(o, str))
            yield from (choice for choice in choices if choice != value)
        elif option is bool:
            yield not value
        elif option in (int, float):
            base = value if isinstance(value, int | float) else 1
            yield from (base + 1, base + 64, base * 0.5, base * 0.9 + 0.05, 40)
        elif option is Path:
            yield from (folder / name for name in ("other.json", "blocked.txt", "prompt.txt"))
        elif option is str:
            yield from ("http://127.0.0.1:2/v1", "s3://bucket/prefix", "another", "A")
    yield from ({"a": "handgun"}, {"another": "value"}, ["another"], ["L3"], ["rl"], {"edit": {"workers": 3}}, {})


def changed(settings: Settings, place: str, value: Any) -> Settings | None:
    """The settings with one value replaced, or None where that is not valid."""
    raw = settings.model_dump()
    here: Any = raw
    *path, last = place.split(".")
    for key in path:
        here = list(here)[int(key)] if key.isdigit() else here[key]
    here[last] = value
    try:
        return Settings.model_validate(raw)
    except ValidationError:
        return None


PACK = load_policy_set()


def keys(settings: Settings, policies: PolicySet = PACK) -> Mapping[str, Any]:
    """What decides each stage, the evaluation's among them."""
    found = {name: stage.decides for name, stage in ready_stages(settings, policies).items()}
    asked = settings.evaluate
    options = EvaluateOptions(max_new_tokens=asked.max_new_tokens, temperature=asked.temperature)
    found |= {f"evaluate {n}": EVALUATE.using(Asking(g, options, 1)).decides for n, g in enumerate(asked.models)}
    return found


def trials(settings: Settings, leaf: Leaf, folder: Path) -> Iterator[Settings]:
    place, value, field = leaf
    for other in others(value, field, folder, place):
        trial = changed(settings, place, other)
        if trial is not None and trial != settings:
            yield trial


def test_no_operational_setting_is_in_a_key(bases: dict[str, Settings], tmp_path: Path) -> None:
    tried = set()
    for settings in bases.values():
        before = keys(settings)
        for leaf in leaves(settings):
            if role_of(leaf[2]) is not Role.HOW:
                continue
            for trial in trials(settings, leaf, tmp_path):
                assert keys(trial) == before, leaf[0]
                tried.add(leaf[0])
    every = {leaf[0] for settings in bases.values() for leaf in leaves(settings) if role_of(leaf[2]) is Role.HOW}
    assert every - tried == set()  # each was really changed
    assert len(tried) > 50


def test_every_deciding_setting_is_in_the_key_of_a_stage(bases: dict[str, Settings], tmp_path: Path) -> None:
    moved, every = {}, set()
    for settings in bases.values():
        before = keys(settings)
        for leaf in leaves(settings):
            place = leaf[0]
            if role_of(leaf[2]) is not Role.DECIDES or place.startswith(PLANS):
                continue
            every.add(place)
            for trial in trials(settings, leaf, tmp_path):
                try:
                    after = keys(trial)
                except FatalError:  # a file that is no block list, for example
                    continue
                stages = {n for n in before.keys() | after.keys() if before.get(n) != after.get(n)}
                moved.setdefault(place, set()).update(stages)
    assert {place for place in every if not moved.get(place)} == set()
    # A few of them, read by hand: what each must redo, and nothing else.
    assert moved["dedup.max_distance"] == {"dedup"}
    assert moved["ingest.licence"] == {"ingest"}
    assert moved["editing.edit.steps"] == {"edit"}
    assert moved["editing.edit.feather_px"] == {"edit", "certify"}
    assert moved["editing.certify.max_shift_px"] == {"certify"}
    assert moved["editing.locate.label_map"] == {"locate", "certify", "second_look"}
    assert moved["editing.locate.detector_threshold"] == {"locate", "certify"}
    assert moved["recaption.caption.seed"] == {"caption", "caption_edited"}
    assert moved["recaption.certify.min_kept_ratio"] == {"rewrite", "certify_recaption"}
    assert moved["evaluate.temperature"] == {"evaluate 0"}


def test_what_a_stage_says_of_a_vocabulary_is_in_its_key(tmp_path: Path) -> None:
    """A changed noun redoes what speaks it; a new policy about known things asks no model again."""
    settings = Settings.model_validate(BASES["served"] | {"policies": tmp_path})
    attributes = [a.model_dump(mode="json", by_alias=True, exclude_defaults=True) for a in PACK.vocabulary.attributes]

    def stages(nouns: Mapping[str, str], policies: int) -> Mapping[str, Any]:
        words = [
            attribute | {"noun": nouns.get(attribute["id"], attribute.get("noun", attribute["id"]))}
            for attribute in attributes
        ]
        (tmp_path / "vocabulary.yaml").write_text(TypeAdapter(Any).dump_json({"attributes": words}).decode())
        for policy in PACK.policies[:policies]:
            (tmp_path / f"{policy.id}.yaml").write_text(policy.model_dump_json())
        changed = settings.model_copy(
            update={"editing": settings.editing.model_copy(
                update={"edit": settings.editing.edit.model_copy(update={"target_policies": ("L3",)})}
            )}
        )  # fmt: skip
        return keys(changed, load_policy_set(tmp_path))

    first = stages({}, 4)
    reworded = stages({"handgun": "sidearm"}, 4)
    assert {n for n in first if first[n] != reworded[n]} == {
        "locate", "certify", "second_look", "rewrite", "certify_recaption", "delta"
    }  # fmt: skip
    grown = stages({}, 5)
    assert {n for n in first if first[n] != grown[n]} == {"select"}
