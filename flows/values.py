"""What the stages of a build work with, made of the settings and the policies."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from PIL.Image import Image as PilImage

from editing.locate import LocateRequest
from editing.networks import Looking, make_locator
from editing.stages import Certifying, look_decided_by
from flows.settings import Settings
from policies.engine import Policy, PolicySet
from recaption.second_look import Look, Seen
from recaption.settings import RecaptionSettings
from recaption.stages import Captioning, Judging, Rewriting, SecondLook
from storage.errors import FatalError, SampleError
from storage.stage import deciding
from storage.stages import Ingesting


def targets_of(settings: Settings, policies: PolicySet) -> list[Policy]:
    """The policies whose violations are edited away; raises FatalError for one that does not exist."""
    by_id = {policy.id: policy for policy in policies}
    wanted = settings.editing.edit.target_policies or tuple(by_id)
    unknown = [name for name in wanted if name not in by_id]
    if unknown:
        raise FatalError(f"editing.edit.target_policies names {unknown[0]}, which is not among {', '.join(by_id)}.")
    return [by_id[name] for name in wanted]


@dataclass(frozen=True)
class Values:
    """A build's settings and policies, and of them what each stage works with; `source` is where ingest reads. A stage
    without a value is left out."""

    settings: Settings
    policies: PolicySet
    source: str = ""

    @cached_property
    def targets(self) -> list[Policy]:
        """The policies whose violations are edited away."""
        return targets_of(self.settings, self.policies)

    @cached_property
    def _rules(self) -> dict[str, str]:
        return {f"{p.id}.{rule.id}": rule.text for p in self.targets for rule in p.rules}

    @property
    def ingesting(self) -> Ingesting:
        return Ingesting(self.settings.ingest, self.source)

    @cached_property
    def looking(self) -> Looking:
        root = self.settings.ingest.columns.root
        return Looking(self.settings.editing.locate, self.policies.vocabulary, self._rules, root)

    @property
    def certifying(self) -> Certifying:
        editing = self.settings.editing
        looking = Looking(editing.looking, self.policies.vocabulary, self._rules)
        return Certifying(editing.certify, looking, editing.edit.feather_px, editing.edit.shard_rows)

    @property
    def _recaption(self) -> RecaptionSettings | None:
        return self.settings.recaption

    @property
    def captioning(self) -> Captioning | None:
        return Captioning(self._recaption.caption) if self._recaption else None

    @property
    def second_look(self) -> SecondLook | None:
        """Nobody looks again where regions were marked by people."""
        looking, settings = self.looking, self._recaption
        if settings is None or settings.second_look != "mirrored" or looking.settings.knows_originals_only:
            return None
        needs, at_once = looking.settings.needs, looking.settings.rows_at_once
        look, decided_by = partial(_look_with, looking), partial(look_decided_by, looking)
        return SecondLook(look, decided_by, needs, at_once, settings.rewrite.shard_rows)

    @property
    def rewriting(self) -> Rewriting | None:
        settings = self._recaption
        if settings is None:
            return None
        return Rewriting(settings.rewrite, settings.certify, settings.caption, self.policies.vocabulary)

    @property
    def judging(self) -> Judging | None:
        settings = self._recaption
        if settings is None:
            return None
        return Judging(settings.certify, self.policies.vocabulary, settings.rewrite.shard_rows)

    @property
    def captioning_edited(self) -> Captioning | None:
        return self.captioning if self._recaption and self._recaption.caption_edited else None

    @property
    def comparing(self) -> Any:
        return self.policies.vocabulary if self.captioning_edited else None

    @property
    def edited_rows_decided_by(self) -> Any:
        """What decides which images are edited, and where."""
        controls = deciding(self.settings.editing.planned_controls)
        return [[policy.content_hash for policy in self.targets], self.policies.vocabulary.spoken, controls]

    @property
    def rewritten_rows_decided_by(self) -> Any:
        """What decides what a caption must say."""
        vocabulary = self.policies.vocabulary
        return [[*words, vocabulary[words[0]].sensitive] for words in vocabulary.spoken]


def _look_with(looking: Looking) -> Look:
    """A locator as the recaption room knows one: attributes and their boxes."""
    locator = make_locator(looking)

    def look(images: Sequence[PilImage]) -> list[Seen | SampleError]:
        answers = locator.locate([LocateRequest(image) for image in images]) if images else []
        return [
            answer if isinstance(answer, SampleError) else tuple((a, r.box) for r in answer for a in r.attributes)
            for answer in answers
        ]

    return look
