"""From config values to implementations: the only place that knows both.

`'micro'` names the networks shipped in `models/micro/weights`; anything else is a folder or a hub id.
"""

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

from editing.certify import CERTIFY_VERSION, SELECT_VERSION, CertifyStage, SelectStage
from editing.detect import DetectorLocator
from editing.edit import EDIT_VERSION, EditOptions, EditStage
from editing.editors import WindowEditor
from editing.locate import LOCATE_VERSION, ChatLocator, LocateStage, Locator
from editing.manifest import ManifestLocator
from editing.settings import EditingSettings, EditSettings, LocateSettings
from models.chat import TransformersChat
from models.detector import ZeroShotDetector
from models.image_edit import ImageEditor, PipelineEditor
from models.openai_images import EndpointOptions, OpenAIImages
from models.pipeline_traits import PipelineOptions
from models.source import fingerprint_of
from policies.attributes import vocabulary
from recaption.caption import CAPTION_VERSION, CaptionStage
from recaption.certify import CERTIFY_VERSION as RECERTIFY_VERSION
from recaption.certify import RecaptionCertifyStage
from recaption.rewrite import REWRITE_VERSION, RewriteStage, check_prompt
from recaption.settings import CaptionSettings, RecaptionSettings, RewriteSettings
from storage.dedup import DEDUP_VERSION, DedupSettings, DedupStage
from storage.errors import FatalError
from storage.gate import BlockList
from storage.ingest import INGEST_VERSION, IngestSettings, IngestStage
from storage.records import Caption, Edit, Image, Located, Recaption
from storage.stage import StageSpec

_ROOT = Path(__file__).resolve().parent.parent
_MICRO = _ROOT / "models" / "micro"
MICRO = {
    "locate": _MICRO / "weights" / "vlm",
    "caption": _MICRO / "weights" / "vlm",
    "rewrite": _MICRO / "weights" / "rewriter",
    "edit": _MICRO / "weights" / "inpaint",
}
_PROMPTS = {
    "locate": _ROOT / "editing" / "prompts" / "locate.txt",
    "caption": _ROOT / "recaption" / "prompts" / "caption.txt",
    "rewrite": _ROOT / "recaption" / "prompts" / "rewrite.txt",
}


def model_source(step: str, model: str) -> str:
    """The folder or hub id behind a config value."""
    return str(MICRO[step]) if model == "micro" else model


def prompt_text(step: str, model: str, path: Path | None) -> str:
    """The prompt of a step: the user's file, or the one shipped for the kind of model."""
    default = _MICRO / "prompts" / f"{step}.txt" if model == "micro" else _PROMPTS[step]
    try:
        text = (path or default).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise FatalError(f"Cannot read the {step} prompt {path}: {error.strerror}.") from error
    return text.replace("{attributes}", ", ".join(vocabulary()))


@cache
def chat_model(source: str, revision: str | None, batch_size: int) -> TransformersChat:
    """A loaded chat model; steps that name the same one share it."""
    return TransformersChat(source, revision=revision, batch_size=batch_size)


def _settings_of(cfg: Any, step: str, **more: Any) -> dict[str, Any]:
    """What a stage's fingerprint holds: its settings, and the content of its model."""
    values: dict[str, Any] = cfg.model_dump(mode="json", exclude={"shard_rows", "prompt"})
    return values | {"model": fingerprint_of(model_source(step, cfg.model), cfg.revision)} | more


def _chat_locator(cfg: LocateSettings) -> Locator:
    model = chat_model(model_source("locate", cfg.model), cfg.revision, cfg.batch_size)
    prompt = prompt_text("locate", cfg.model, cfg.prompt)
    return ChatLocator(model, prompt, units=cfg.box_units, max_new_tokens=cfg.max_new_tokens)


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
    "detector": _detector_locator,
}


def make_locator(cfg: LocateSettings) -> Locator:
    """The locator that the config names."""
    return _LOCATORS[cfg.source](cfg)


def make_rechecker(cfg: EditingSettings) -> Locator | None:
    """Who looks at edited images. A manifest knows originals only, so there the chat model does."""
    if cfg.certify.recheck == "none":
        return None
    return _LOCATORS["detector" if cfg.locate.source == "detector" else "chat"](cfg.locate)


def _image_editor(cfg: EditSettings) -> ImageEditor:
    """The model that edits: behind an endpoint, or a pipeline in this process."""
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


def make_locate_stage(root: str, cfg: LocateSettings) -> LocateStage:
    return LocateStage(root, make_locator(cfg), cfg.batch_size)


def make_edit_stage(root: str, cfg: EditSettings) -> EditStage:
    options = EditOptions(
        prompt=cfg.prompt,
        dilate_ratio=cfg.dilate_ratio,
        feather_px=cfg.feather_px,
        max_mask_ratio=cfg.max_mask_ratio,
        candidates=cfg.candidates,
        composite=cfg.mode == "composite",
    )
    return EditStage(root, make_editor(cfg), options, cfg.batch_size)


def make_certify_stage(root: str, cfg: EditingSettings) -> CertifyStage:
    return CertifyStage(root, make_rechecker(cfg), cfg.edit.feather_px, cfg.certify, cfg.locate.batch_size)


def make_caption_stage(root: str, cfg: CaptionSettings) -> CaptionStage:
    model = chat_model(model_source("caption", cfg.model), cfg.revision, cfg.batch_size)
    prompt = prompt_text("caption", cfg.model, cfg.prompt)
    return CaptionStage(root, model, prompt, cfg.max_new_tokens, cfg.batch_size)


def make_rewrite_stage(cfg: RewriteSettings) -> RewriteStage:
    model = chat_model(model_source("rewrite", cfg.model), cfg.revision, cfg.batch_size)
    prompt = prompt_text("rewrite", cfg.model, cfg.prompt)
    return RewriteStage(model, prompt, cfg.max_new_tokens, cfg.batch_size)


def ingest_spec(root: str, cfg: IngestSettings) -> StageSpec:
    """Ingest with the gate inside; a changed block list checks every image again."""
    blocked = BlockList.read(cfg.block_list, max_distance=cfg.block_distance)
    settings = cfg.model_dump(mode="json", exclude={"shard_rows", "block_list"}) | {"blocked": blocked.content_hash}
    kwargs = {"root": root, "cfg": cfg}
    return StageSpec("ingest", INGEST_VERSION, IngestStage, kwargs, settings, Image, "key", "source_key", parallel=True)


def dedup_spec(cfg: DedupSettings) -> StageSpec:
    settings = cfg.model_dump(mode="json")
    return StageSpec("dedup", DEDUP_VERSION, DedupStage, {"cfg": cfg}, settings, Image, "source_key", "source_key")


def _locate_settings(cfg: LocateSettings) -> dict[str, Any]:
    """What decides an answer: the manifest's content, or the model and what it is asked."""
    if cfg.source == "manifest":
        return {"manifest": _manifest_locator(cfg).fingerprint}
    return _settings_of(cfg, "locate", prompt_text=prompt_text("locate", cfg.model, cfg.prompt))


def locate_spec(root: str, cfg: LocateSettings) -> StageSpec:
    return StageSpec(
        "locate", LOCATE_VERSION, make_locate_stage, {"root": root, "cfg": cfg}, _locate_settings(cfg), Located
    )


def edit_spec(root: str, cfg: EditSettings) -> StageSpec:
    settings = _settings_of(cfg, "edit", prompt_text=cfg.prompt)
    return StageSpec("edit", EDIT_VERSION, make_edit_stage, {"root": root, "cfg": cfg}, settings, Edit)


def certify_spec(root: str, cfg: EditingSettings) -> StageSpec:
    """Certify looks again with a model, so that model matters as much as the thresholds."""
    thresholds = cfg.certify.model_dump(mode="json") | {"feather_px": cfg.edit.feather_px}
    looks_again = cfg.locate.model_copy(update={"source": "chat"}) if cfg.locate.source == "manifest" else cfg.locate
    settings = [thresholds, None if cfg.certify.recheck == "none" else _locate_settings(looks_again)]
    kwargs = {"root": root, "cfg": cfg}
    return StageSpec("certify", CERTIFY_VERSION, make_certify_stage, kwargs, settings, Edit, "edit_id", "edit_id")


def select_spec() -> StageSpec:
    return StageSpec("select", SELECT_VERSION, SelectStage, {}, {}, Edit)


def caption_spec(root: str, cfg: CaptionSettings) -> StageSpec:
    settings = _settings_of(cfg, "caption", prompt_text=prompt_text("caption", cfg.model, cfg.prompt))
    return StageSpec("caption", CAPTION_VERSION, make_caption_stage, {"root": root, "cfg": cfg}, settings, Caption)


def rewrite_spec(cfg: RewriteSettings) -> StageSpec:
    prompt = check_prompt(prompt_text("rewrite", cfg.model, cfg.prompt))
    settings = _settings_of(cfg, "rewrite", prompt_text=prompt)
    return StageSpec("rewrite", REWRITE_VERSION, make_rewrite_stage, {"cfg": cfg}, settings, Recaption)


def recertify_spec(cfg: RecaptionSettings) -> StageSpec:
    settings = cfg.certify.model_dump(mode="json")
    kwargs = {"cfg": cfg.certify}
    return StageSpec("recertify", RECERTIFY_VERSION, RecaptionCertifyStage, kwargs, settings, Recaption)
