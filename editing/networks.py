"""From settings to who locates, edits and looks again. Each literal dict maps a config value to an implementation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path

from editing.boxes import form_of, schema_of
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
from models.text_reader import RapidReader
from policies.vocabulary import Vocabulary

_ATTRIBUTES_AT_ONCE = 250  # in one question; a model overlooks things in longer lists


@dataclass(frozen=True)
class Looking:
    """All that finding regions depends on: `rules` are the texts of the target policies' rules, by their ids, and
    `root` a folder that paths of masks may lead into."""

    settings: LocateSettings
    vocabulary: Vocabulary
    rules: Mapping[str, str]
    root: Path | None = None

    @cached_property
    def prompts(self) -> tuple[str, ...]:
        """The prompt with its blanks filled, once for each part of a vocabulary that is too long for one question.

        Raises FatalError for a file that cannot be read, and where nothing says how the model writes boxes.
        """
        shipped = files("editing").joinpath("prompts", "locate.txt")
        text, ids = read_prompt("locate", self.settings.prompt, shipped), list(self.vocabulary)
        if "{box}" in text:
            text = text.replace("{box}", form_of(self.settings.units))
        groups = [ids[at : at + _ATTRIBUTES_AT_ONCE] for at in range(0, len(ids), _ATTRIBUTES_AT_ONCE)]
        return tuple(self._filled(text, group, self._rules_about(group, groups)) for group in groups)

    def _filled(self, text: str, group: Sequence[str], rules: Mapping[str, str]) -> str:
        nouns = ", ".join(self.vocabulary[attribute].noun for attribute in group)
        listed = "\n".join(f"{rule_id}: {rule}" for rule_id, rule in rules.items()) or "(none)"
        return text.replace("{attributes}", nouns).replace("{rules}", listed)

    def _rules_about(self, group: Sequence[str], groups: Sequence[Sequence[str]]) -> Mapping[str, str]:
        """Of several questions each lists the rules about its things; a rule that names none is in the first."""
        if len(groups) == 1:
            return self.rules
        named = {rule_id: self.vocabulary.spoken_of(rule) for rule_id, rule in self.rules.items()}
        first = group is groups[0]
        return {i: rule for i, rule in self.rules.items() if named[i] & set(group) or (first and not named[i])}

    @cached_property
    def marked(self) -> Locator:
        """The locator of regions that were marked beforehand, whose file is read once."""
        settings = self.settings
        if settings.manifest is not None:
            return ManifestLocator(settings.manifest, settings.label_map, self.vocabulary, self.root)
        return BoxesLocator(settings.label_map, self.vocabulary)


def _chat_locator(looking: Looking) -> Locator:
    settings = looking.settings
    known_rules = frozenset(looking.rules)
    # A prompt of the user's may ask for another form.
    schema = schema_of(settings.units) if settings.prompt is None else None
    return ChatLocator(chat_model(settings), looking.prompts, looking.vocabulary, settings, known_rules, schema)


def _detector_locator(looking: Looking) -> Locator:
    settings = looking.settings
    detector = ZeroShotDetector(
        settings.model,
        revision=settings.revision,
        threshold=settings.detector_threshold,
        batch_size=settings.batch_size,
    )
    return DetectorLocator(detector, looking.vocabulary, max_iou=settings.detector_max_iou)


_LOCATORS: dict[str, Callable[[Looking], Locator]] = {
    "chat": _chat_locator,
    "manifest": lambda looking: looking.marked,
    "boxes": lambda looking: looking.marked,
    "detector": _detector_locator,
}


def make_locator(looking: Looking) -> Locator:
    """The locator that the settings name."""
    return _LOCATORS[looking.settings.source](looking)


def make_witnesses(settings: CertifySettings, looking: Looking) -> Witnesses:
    """Who looks at edited images."""
    return Witnesses(
        locator=None if settings.recheck == "none" else make_locator(looking),
        chat=chat_model(looking.settings) if settings.questions else None,
        perceptual=None if settings.max_outside_lpips is None else Lpips(),
        reader=RapidReader() if settings.read_text else None,
    )


def image_editor(settings: EditSettings) -> ImageEditor:
    """The model that edits, with its pictures counted."""
    return MeteredEditor(_plain_editor(settings), settings.model)


def _plain_editor(settings: EditSettings) -> ImageEditor:
    # The model's own settings alone: its fingerprint is part of each edit's id, and so of its seed.
    own = PictureSettings(**{name: getattr(settings, name) for name in PictureSettings.model_fields})
    if own.endpoint is not None:
        return OpenAIImages(own)
    return ClassicalEditor(own.model) if own.model in CLASSICAL else PipelineEditor(own)


def make_editor(settings: EditSettings) -> WindowEditor:
    """The editor that the settings name."""
    return WindowEditor(
        image_editor(settings),
        context_ratio=settings.context_ratio,
        min_window_px=settings.min_window_px,
        scope=settings.scope,
        adds_grain=settings.adds_grain,
    )
