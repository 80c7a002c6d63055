"""From config values to networks and locators.

`'micro'` names the networks shipped in `models/micro/weights`; anything else is a folder, a hub id, or the name that a
server knows the model by.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path

from editing.certify import Witnesses
from editing.detect import DetectorLocator
from editing.editors import WindowEditor
from editing.locate import ChatLocator, LocateRequest, Locator
from editing.manifest import ManifestLocator
from editing.settings import EditingSettings, EditSettings, LocateSettings
from editing.source_boxes import BoxesLocator
from models.chat import ChatModel, TransformersChat
from models.detector import ZeroShotDetector
from models.image_edit import ImageEditor, PipelineEditor
from models.image_links import ImageLinks
from models.metering import MeteredChat, MeteredEditor
from models.openai_chat import OpenAIChat
from models.openai_images import EndpointOptions, OpenAIImages
from models.perceptual import Lpips
from models.pipeline_traits import PipelineOptions
from models.server import ServerSettings
from policies.attributes import vocabulary
from policies.engine import Policy
from recaption.second_look import Look, Seen
from recaption.settings import CaptionSettings, RewriteSettings
from storage.errors import FatalError, SampleError
from storage.images import Rgb

_ROOT = Path(__file__).resolve().parent.parent
_MICRO = _ROOT / "models" / "micro"
MICRO = {
    "locate": _MICRO / "weights" / "vlm",
    "caption": _MICRO / "weights" / "vlm",
    "rewrite": _MICRO / "weights" / "rewriter",
    "edit": _MICRO / "weights" / "inpaint",
    "guard": _MICRO / "weights" / "guard",
}
_PROMPTS = {
    "locate": _ROOT / "editing" / "prompts" / "locate.txt",
    "caption": _ROOT / "recaption" / "prompts" / "caption.txt",
    "rewrite": _ROOT / "recaption" / "prompts" / "rewrite.txt",
}


def model_source(step: str, model: str) -> str:
    """The folder or hub id behind a config value."""
    return str(MICRO[step]) if model == "micro" else model


def prompt_text(step: str, model: str, path: Path | None, rules: Mapping[str, str] | None = None) -> str:
    """The prompt of a step: the user's file, or the one shipped for the kind of model, with its blanks filled in."""
    default = _MICRO / "prompts" / f"{step}.txt" if model == "micro" else _PROMPTS[step]
    try:
        text = (path or default).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise FatalError(f"Cannot read the {step} prompt {path}: {error.strerror}.") from error
    listed = "\n".join(f"{rule_id}: {rule}" for rule_id, rule in (rules or {}).items()) or "(none)"
    return text.replace("{attributes}", ", ".join(vocabulary())).replace("{rules}", listed)


def with_rules(cfg: EditingSettings, policies: Sequence[Policy]) -> EditingSettings:
    """The settings, the locator's with the text of every rule of `policies` unless it was given some."""
    rules = {f"{policy.id}.{rule.id}": rule.text for policy in policies for rule in policy.rules}
    return cfg.model_copy(update={"locate": cfg.locate.model_copy(update={"rules": cfg.locate.rules or rules})})


def targets_of(settings: EditingSettings, policies: Sequence[Policy]) -> list[Policy]:
    """The policies whose violations are edited away; raises FatalError for one that does not exist."""
    by_id = {policy.id: policy for policy in policies}
    unknown = [name for name in settings.edit.target_policies if name not in by_id]
    if unknown:
        raise FatalError(f"editing.edit.target_policies names {unknown[0]}, which is not among {', '.join(by_id)}.")
    return [by_id[name] for name in settings.edit.target_policies]


@cache
def local_chat(source: str, revision: str | None, batch_size: int) -> TransformersChat:
    """A chat model in this process; steps that name the same one share it."""
    return TransformersChat(source, revision=revision, batch_size=batch_size)


@cache
def served_chat(model: str, revision: str | None, cfg: ServerSettings) -> OpenAIChat:
    """A client of a server; steps that name the same one share its slots."""
    return OpenAIChat(
        cfg.base_url,
        model,
        revision=revision,
        api_key_env=cfg.api_key_env,
        max_in_flight=cfg.max_in_flight,
        timeout_s=cfg.timeout_s,
        attempts=cfg.attempts,
        max_pixels=cfg.max_pixels,
        image_transport=ImageLinks(cfg.images_through, cfg.link_expires_s) if cfg.images_through else "data_uri",
        json_schema=cfg.json_schema,
    )


def chat_model(step: str, cfg: LocateSettings | CaptionSettings | RewriteSettings) -> ChatModel:
    """The chat model that a step names, behind its server or in this process, with its requests counted."""
    if cfg.server is not None:
        return MeteredChat(served_chat(cfg.model, cfg.revision, cfg.server), cfg.model)
    return MeteredChat(local_chat(model_source(step, cfg.model), cfg.revision, cfg.batch_size), cfg.model)


def _chat_locator(cfg: LocateSettings) -> Locator:
    return ChatLocator(
        chat_model("locate", cfg),
        prompt_text("locate", cfg.model, cfg.prompt, cfg.rules),
        units=cfg.units,
        max_new_tokens=cfg.max_new_tokens,
        known_rules=frozenset(cfg.rules),
        side_multiple=cfg.side_multiple,
    )


def _manifest_locator(cfg: LocateSettings) -> Locator:
    assert cfg.manifest is not None  # the settings check it
    return ManifestLocator(cfg.manifest, cfg.label_map)


def _detector_locator(cfg: LocateSettings) -> Locator:
    detector = ZeroShotDetector(
        cfg.model, revision=cfg.revision, threshold=cfg.detector_threshold, batch_size=cfg.batch_size
    )
    return DetectorLocator(detector, max_iou=cfg.detector_max_iou)


_LOCATORS: dict[str, Callable[[LocateSettings], Locator]] = {
    "chat": _chat_locator,
    "manifest": _manifest_locator,
    "boxes": lambda cfg: BoxesLocator(cfg.label_map),
    "detector": _detector_locator,
}


def make_locator(cfg: LocateSettings) -> Locator:
    """The locator that the config names."""
    return _LOCATORS[cfg.source](cfg)


def look_with(locator: Locator) -> Look:
    """A locator as the recaption room knows one: attributes and their boxes."""

    def look(images: Sequence[Rgb]) -> list[Seen | SampleError]:
        answers = locator.locate([LocateRequest(image) for image in images]) if images else []
        return [
            answer if isinstance(answer, SampleError) else tuple((a, r.box) for r in answer for a in r.attributes)
            for answer in answers
        ]

    return look


def make_witnesses(cfg: EditingSettings) -> Witnesses:
    """Who looks at edited images. Where regions were marked beforehand, the chat model does."""
    certify = cfg.certify
    source = "detector" if cfg.locate.source == "detector" else "chat"
    return Witnesses(
        locator=None if certify.recheck == "none" else _LOCATORS[source](cfg.locate),
        chat=chat_model("locate", cfg.locate) if certify.questions else None,
        perceptual=None if certify.max_outside_lpips is None else Lpips(),
    )


def _image_editor(cfg: EditSettings) -> ImageEditor:
    """The model that edits, behind an endpoint or as a pipeline in this process, with its pictures counted."""
    return MeteredEditor(_plain_editor(cfg), cfg.model)


def _plain_editor(cfg: EditSettings) -> ImageEditor:
    if cfg.endpoint is not None:
        options = EndpointOptions(
            model=cfg.model, revision=cfg.revision, size_px=cfg.size_px, **cfg.endpoint.model_dump()
        )
        return OpenAIImages(options)
    values = cfg.model_dump(include={f.name for f in fields(PipelineOptions)})
    return PipelineEditor(model_source("edit", cfg.model), PipelineOptions(**values), revision=cfg.revision)


def make_editor(cfg: EditSettings) -> WindowEditor:
    """The editor that the config names."""
    return WindowEditor(
        _image_editor(cfg), context_ratio=cfg.context_ratio, min_window_px=cfg.min_window_px, scope=cfg.scope
    )
