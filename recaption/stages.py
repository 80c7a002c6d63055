"""The stages of this room: caption, second look, rewrite, certify, and what the captions of a pair say of its edit."""

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

    cfg: CaptionSettings

    @cached_property
    def prompt(self) -> str:
        return prompt_text("caption", self.cfg.prompt)


CAPTION = Stage[Captioning](
    name="caption",
    says="a model's own words about each image",
    version=4,
    record=Caption,
    decides=lambda values: values.cfg.decided_by(prompt=values.prompt),
    make=lambda values, workspace: CaptionStage(workspace, chat_model(values.cfg), values.prompt, values.cfg),
    needs=lambda values: values.cfg.needs,
    shard_rows=lambda values: values.cfg.shard_rows,
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
    version=2,
    record=RewriteTask,
    decides=lambda values: values.decided_by(),
    make=lambda values, workspace: SecondLookStage(workspace, values.make(), values.rows_at_once),
    needs=lambda values: values.needs,
    shard_rows=lambda values: values.shard_rows,
)


@dataclass(frozen=True)
class Rewriting:
    """What rewrite works with. A second attempt depends on the certificate, a check of spans on the captioner."""

    cfg: RewriteSettings
    certify: MinimalitySettings
    caption: CaptionSettings
    vocabulary: Vocabulary

    @cached_property
    def prompt(self) -> str:
        return check_prompt(prompt_text("rewrite", self.cfg.prompt))

    @cached_property
    def retry(self) -> Retry | None:
        return Retry(self.certify, prompt_text("retry", self.cfg.retry_prompt)) if self.cfg.retry else None

    @property
    def needs(self) -> Needs:
        """A check of spans asks the captioner too, which may be in this process."""
        also = self.caption.needs if self.cfg.confirm_spans else self.cfg.needs
        return "gpu" if "gpu" in (self.cfg.needs, also) else "server"

    @property
    def decided_by(self) -> Any:
        retry = self.retry
        return self.cfg.decided_by(
            prompt=self.prompt,
            retry_prompt=None if retry is None else [retry.text, deciding(self.certify)],
            looker=self.caption.model_decided_by() if self.cfg.confirm_spans else None,
            words=self.vocabulary.spoken,
        )


def _rewrite(values: Rewriting, workspace: Workspace) -> Tool:
    cfg = values.cfg
    verifier = SpanVerifier(chat_model(values.caption)) if cfg.confirm_spans else None
    return RewriteStage(
        workspace,
        chat_model(cfg),
        cfg,
        values.vocabulary,
        prompt=values.prompt,
        retry=values.retry,
        verifier=verifier,
    )


REWRITE = Stage[Rewriting](
    name="rewrite",
    says="confirmed findings that the caption lacks are put in",
    version=4,
    record=Recaption,
    decides=lambda values: values.decided_by,
    make=_rewrite,
    needs=lambda values: values.needs,
    shard_rows=lambda values: values.cfg.shard_rows,
)


@dataclass(frozen=True)
class Judging:
    """What certifying a recaption works with."""

    cfg: MinimalitySettings
    vocabulary: Vocabulary
    shard_rows: int


RECERTIFY = Stage[Judging](
    name="recertify",
    says="each recaption held against its findings",
    version=4,
    record=Recaption,
    decides=lambda values: deciding(values.cfg) | {"words": values.vocabulary.spoken},
    make=lambda values, _: RecaptionCertifyStage(values.cfg, values.vocabulary),
    shard_rows=lambda values: values.shard_rows,
)

DELTA = Stage[Vocabulary](
    name="delta",
    says="what the captions of a pair say that the edit removed",
    version=3,
    record=CaptionDelta,
    decides=lambda vocabulary: [[*words, vocabulary[words[0]].sensitive] for words in vocabulary.spoken],
    make=lambda vocabulary, _: DeltaStage(vocabulary),
    unit_in="edit_id",
    unit_out="edit_id",
)
