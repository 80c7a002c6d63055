"""The stages of this package: caption, second look, rewrite, certify, and the comparison of a pair's captions."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from models.chat_models import chat_model
from policies.vocabulary import Vocabulary
from recaption.caption import CaptionStage
from recaption.certify import RecaptionCertifyStage
from recaption.confirm import SpanVerifier
from recaption.delta import DeltaStage
from recaption.prompt_files import prompt_text
from recaption.rewrite import Retry, RewriteStage, check_prompt
from recaption.second_look import Look, SecondLookStage
from recaption.settings import CaptionSettings, MinimalitySettings, RewriteSettings
from storage.records.recaption import Caption, CaptionDelta, Recaption, RewriteTask
from storage.stage import Needs, Stage, Tool, deciding
from storage.workspace import Workspace


@dataclass(frozen=True)
class Captioning:
    """What caption works with. A prompt file is read once, so that the text in the key is the text that is sent."""

    settings: CaptionSettings

    @cached_property
    def prompt(self) -> str:
        return prompt_text("caption", self.settings.prompt)


CAPTION = Stage[Captioning](
    name="caption",
    says="a model's own words about each image",
    version=4,
    record=Caption,
    decides=lambda values: values.settings.decided_by(prompt=values.prompt),
    make=lambda values, workspace: CaptionStage(workspace, chat_model(values.settings), values.prompt, values.settings),
    needs=lambda values: values.settings.needs,
    shard_rows=lambda values: values.settings.shard_rows,
)

CAPTION_EDITED = replace(CAPTION, name="caption_edited", says="the same for accepted edits")


@dataclass(frozen=True)
class SecondLook:
    """Who looks again. `make` gives the look where the stage runs, `decided_by` what its answers depend on."""

    make: Callable[[], Look]
    decided_by: Callable[[], Any]
    needs: Needs
    rows_at_once: int | None
    shard_rows: int


SECOND_LOOK = Stage[SecondLook](
    name="second_look",
    says="findings looked at again, in the mirrored image",
    version=4,
    record=RewriteTask,
    decides=lambda values: values.decided_by(),
    make=lambda values, workspace: SecondLookStage(workspace, values.make(), values.rows_at_once),
    needs=lambda values: values.needs,
    shard_rows=lambda values: values.shard_rows,
)


@dataclass(frozen=True)
class Rewriting:
    """What rewrite works with. A second attempt depends on the certificate, a check of spans on the captioner."""

    settings: RewriteSettings
    certify: MinimalitySettings
    caption: CaptionSettings
    vocabulary: Vocabulary

    @cached_property
    def prompt(self) -> str:
        return check_prompt(prompt_text("rewrite", self.settings.prompt))

    @cached_property
    def retry(self) -> Retry | None:
        return Retry(self.certify, prompt_text("retry", self.settings.retry_prompt)) if self.settings.retry else None

    @property
    def needs(self) -> Needs:
        """A check of spans asks the captioner too, which may be in this process."""
        also = self.caption.needs if self.settings.confirm_spans else self.settings.needs
        return "gpu" if "gpu" in (self.settings.needs, also) else "server"

    @property
    def decided_by(self) -> Any:
        retry = self.retry
        return self.settings.decided_by(
            prompt=self.prompt,
            retry_prompt=None if retry is None else [retry.text, deciding(self.certify)],
            looker=self.caption.model_decided_by() if self.settings.confirm_spans else None,
            words=self.vocabulary.spoken,
        )


def _rewrite(values: Rewriting, workspace: Workspace) -> Tool:
    settings = values.settings
    verifier = SpanVerifier(chat_model(values.caption)) if settings.confirm_spans else None
    return RewriteStage(
        workspace,
        chat_model(settings),
        settings,
        values.vocabulary,
        prompt=values.prompt,
        retry=values.retry,
        verifier=verifier,
    )


REWRITE = Stage[Rewriting](
    name="rewrite",
    says="confirmed findings that the caption lacks are put in",
    version=6,
    record=Recaption,
    decides=lambda values: values.decided_by,
    make=_rewrite,
    needs=lambda values: values.needs,
    shard_rows=lambda values: values.settings.shard_rows,
)


@dataclass(frozen=True)
class Judging:
    """What certifying a recaption works with."""

    settings: MinimalitySettings
    vocabulary: Vocabulary
    shard_rows: int


CERTIFY_RECAPTION = Stage[Judging](
    name="certify_recaption",
    says="each recaption held against its findings",
    version=6,
    record=Recaption,
    decides=lambda values: deciding(values.settings) | {"words": values.vocabulary.spoken},
    make=lambda values, _: RecaptionCertifyStage(values.settings, values.vocabulary),
    shard_rows=lambda values: values.shard_rows,
)

DELTA = Stage[Vocabulary](
    name="delta",
    says="what the captions of a pair say that the edit removed",
    version=4,
    record=CaptionDelta,
    decides=lambda vocabulary: [[*words, vocabulary[words[0]].sensitive] for words in vocabulary.spoken],
    make=lambda vocabulary, _: DeltaStage(vocabulary),
    unit_in="edit_id",
    unit_out="edit_id",
)
