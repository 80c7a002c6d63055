"""From settings to who locates, edits and looks again. Each literal dict maps a config value to an implementation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

from editing.certify import Witnesses
from editing.detect import DetectorLocator
from editing.editors import WindowEditor
from editing.locate import ChatLocator, Locator
from editing.manifest import ManifestLocator
from editing.settings import CertifySettings, EditSettings, LocateSettings
from editing.source_boxes import BoxesLocator
from models.chat_models import chat_model
from models.classical import ClassicalEditor
from models.detector import ZeroShotDetector
from models.image_edit import ImageEditor, PipelineEditor
from models.metering import MeteredEditor
from models.openai_images import OpenAIImages
from models.perceptual import Lpips
from models.prompts import read_prompt
from models.settings import CLASSICAL, PictureSettings
from policies.vocabulary import Vocabulary


@dataclass(frozen=True)
class Looking:
    """All that finding regions depends on: `rules` are the texts of the target policies' rules, by their ids."""

    cfg: LocateSettings
    vocabulary: Vocabulary
    rules: Mapping[str, str]

    @cached_property
    def prompt(self) -> str:
        """The prompt with its blanks filled; raises FatalError for a file that cannot be read."""
        shipped = files("editing").joinpath("prompts", "locate.txt")
        text = read_prompt("locate", self.cfg.prompt, shipped)
        nouns = ", ".join(attribute.noun for attribute in self.vocabulary.values())
        listed = "\n".join(f"{rule_id}: {rule}" for rule_id, rule in self.rules.items()) or "(none)"
        return text.replace("{attributes}", nouns).replace("{rules}", listed)

    @cached_property
    def marked(self) -> Locator:
        """The locator of regions that were marked beforehand, whose file is read once."""
        cfg = self.cfg
        if cfg.manifest is not None:
            return ManifestLocator(cfg.manifest, cfg.label_map, self.vocabulary)
        return BoxesLocator(cfg.label_map, self.vocabulary)


def _chat_locator(looking: Looking) -> Locator:
    cfg = looking.cfg
    known_rules = frozenset(looking.rules)
    return ChatLocator(chat_model(cfg), looking.prompt, looking.vocabulary, cfg, known_rules)


def _detector_locator(looking: Looking) -> Locator:
    cfg = looking.cfg
    detector = ZeroShotDetector(
        cfg.model, revision=cfg.revision, threshold=cfg.detector_threshold, batch_size=cfg.batch_size
    )
    return DetectorLocator(detector, looking.vocabulary, max_iou=cfg.detector_max_iou)


_LOCATORS: dict[str, Callable[[Looking], Locator]] = {
    "chat": _chat_locator,
    "manifest": lambda looking: looking.marked,
    "boxes": lambda looking: looking.marked,
    "detector": _detector_locator,
}


def make_locator(looking: Looking) -> Locator:
    """The locator that the settings name."""
    return _LOCATORS[looking.cfg.source](looking)


def make_witnesses(cfg: CertifySettings, looking: Looking) -> Witnesses:
    """Who looks at edited images."""
    return Witnesses(
        locator=None if cfg.recheck == "none" else make_locator(looking),
        chat=chat_model(looking.cfg) if cfg.questions else None,
        perceptual=None if cfg.max_outside_lpips is None else Lpips(),
    )


def image_editor(cfg: EditSettings) -> ImageEditor:
    """The model that edits, with its pictures counted."""
    return MeteredEditor(_plain_editor(cfg), cfg.model)


def _plain_editor(cfg: EditSettings) -> ImageEditor:
    # The model's own settings alone: its fingerprint is part of each edit's id, and so of its seed.
    own = PictureSettings(**{name: getattr(cfg, name) for name in PictureSettings.model_fields})
    if own.endpoint is not None:
        return OpenAIImages(own)
    return ClassicalEditor(own.model) if own.model in CLASSICAL else PipelineEditor(own)


def make_editor(cfg: EditSettings) -> WindowEditor:
    """The editor that the settings name."""
    return WindowEditor(
        image_editor(cfg), context_ratio=cfg.context_ratio, min_window_px=cfg.min_window_px, scope=cfg.scope
    )
