"""The pipeline: every stage of a build in order, and what goes from one to the next. Read this first.

    ingest ─ dedup ─ locate ─┬─ edit ─ certify ─ select ────────────────────────────┐
                             └─ caption ─ second_look ─ rewrite ─ certify_recaption ┴─ caption_edited ─ delta

Each stage is declared in its own room. Whoever needs a fact about one (what it needs, what decides its output, what
people read about it) asks the stage.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from PIL.Image import Image as PilImage

from editing.locate import LocateRequest
from editing.networks import Looking, make_locator
from editing.stages import CERTIFY, EDIT, LOCATE, SELECT, Certifying, look_decided_by
from flows import planning
from flows.engine.job import Job
from flows.planning import Rows
from flows.settings import Settings
from flows.sources import SourceShards
from policies.engine import Policy, PolicySet
from recaption.second_look import Look, Seen
from recaption.settings import RecaptionSettings
from recaption.stages import (
    CAPTION,
    CAPTION_EDITED,
    CERTIFY_RECAPTION,
    DELTA,
    REWRITE,
    SECOND_LOOK,
    Captioning,
    Judging,
    Rewriting,
    SecondLook,
)
from storage.errors import FatalError, SampleError
from storage.records.ids import content_id
from storage.stage import ReadyStage, Stage, deciding
from storage.stages import DEDUP, INGEST, Ingesting

STAGES: tuple[Stage[Any], ...] = (
    INGEST,
    DEDUP,
    LOCATE,
    EDIT,
    CERTIFY,
    SELECT,
    CAPTION,
    SECOND_LOOK,
    REWRITE,
    CERTIFY_RECAPTION,
    CAPTION_EDITED,
    DELTA,
)

_PLAIN_SHARD_ROWS = 2000  # of a stage whose rows are small and cost nothing

ORDER = tuple(stage.name for stage in STAGES)

Ready = Mapping[str, ReadyStage]
"""Stages by name, each with the values that it works with."""


def targets_of(settings: Settings, policies: PolicySet) -> list[Policy]:
    """The policies whose violations are edited away; raises FatalError for one that does not exist."""
    by_id = {policy.id: policy for policy in policies}
    wanted = settings.editing.edit.target_policies or tuple(by_id)
    unknown = [name for name in wanted if name not in by_id]
    if unknown:
        raise FatalError(f"editing.edit.target_policies names {unknown[0]}, which is not among {', '.join(by_id)}.")
    return [by_id[name] for name in wanted]


def ready_stages(settings: Settings, policies: PolicySet, source: str = "") -> Ready:
    """The stages that these settings ask for, in order; `source` is where ingest reads. Raises FatalError for a prompt
    or a list that cannot be read, once somebody asks what decides a stage."""
    editing, vocabulary = settings.editing, policies.vocabulary
    rules = {f"{p.id}.{rule.id}": rule.text for p in targets_of(settings, policies) for rule in p.rules}
    looking = Looking(editing.locate, vocabulary, rules, settings.ingest.columns.root)
    certifying = Certifying(
        editing.certify,
        Looking(editing.looking, vocabulary, rules),
        editing.edit.feather_px,
        editing.edit.shard_rows,
    )
    stages = [
        INGEST.using(Ingesting(settings.ingest, source)),
        DEDUP.using(settings.dedup),
        LOCATE.using(looking),
        EDIT.using(editing.edit),
        CERTIFY.using(certifying),
        SELECT.using(policies),
        *(_recaptioning(settings.recaption, looking) if settings.recaption else ()),
    ]
    return {stage.name: stage for stage in stages}


def _recaptioning(settings: RecaptionSettings, looking: Looking) -> Iterator[ReadyStage]:
    vocabulary = looking.vocabulary
    yield CAPTION.using(Captioning(settings.caption))
    if settings.second_look == "mirrored" and not looking.settings.knows_originals_only:
        yield SECOND_LOOK.using(
            SecondLook(
                partial(_look_with, looking),
                partial(look_decided_by, looking),
                looking.settings.needs,
                looking.settings.rows_at_once,
                settings.rewrite.shard_rows,
            )
        )
    yield REWRITE.using(Rewriting(settings.rewrite, settings.certify, settings.caption, vocabulary))
    yield CERTIFY_RECAPTION.using(Judging(settings.certify, vocabulary, settings.rewrite.shard_rows))
    if settings.caption_edited:
        yield CAPTION_EDITED.using(Captioning(settings.caption))
        yield DELTA.using(vocabulary)


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


def run_stages(job: Job, stages: Ready, settings: Settings, policies: PolicySet, plan: SourceShards) -> Rows:
    """Every stage up to publishing, on the planned shards of a source; the accepted edits, controls among them. Where
    stages overlap, this comes back once all are under way."""
    ingested = job.stage(stages["ingest"], plan.shards, as_given=True)
    kept = job.stage(stages["dedup"], ingested)
    known = _SHOWN + (_OF_SOURCE if settings.editing.locate.knows_originals_only else ())
    located = job.stage(stages["locate"], planning.pictures(kept, known))
    tasks = planning.edit_tasks(
        kept, located, targets_of(settings, policies), policies.vocabulary, settings.editing.planned_controls
    )
    edits = _edit(job, stages, tasks)
    if "caption" in stages:
        recaptions = _recaption(job, stages, policies, kept, located)
        if "caption_edited" in stages:
            _compare_twins(job, stages, kept, edits, recaptions)
    return edits


_SHOWN = ("image_id", "blob")
_OF_SOURCE = ("source_key", "meta_json")  # the name by which a manifest lists an image, and boxes that came with it


def _edit(job: Job, stages: Ready, tasks: Rows) -> Rows:
    """The accepted edits, controls among them. The best candidate of an image is chosen where all of them are."""
    candidates = job.stage(stages["edit"], tasks)
    certified = job.stage(stages["certify"], candidates)
    return job.stage(stages["select"], certified, _PLAIN_SHARD_ROWS, together=("image_id", "kind"))


def _recaption(job: Job, stages: Ready, policies: PolicySet, images: Rows, located: Rows) -> Rows:
    """Each image's own caption with what it leaves out put back, certified."""
    described = job.stage(stages["caption"], planning.pictures(planning.located_images(images, located), _SHOWN))
    rewrites: Any = planning.rewrite_tasks(images, located, described, policies.vocabulary)
    if "second_look" in stages:
        rewrites = job.stage(stages["second_look"], rewrites)
    rewritten = job.stage(stages["rewrite"], rewrites)
    return job.stage(stages["certify_recaption"], rewritten)


def _compare_twins(job: Job, stages: Ready, images: Rows, edits: Rows, recaptions: Rows) -> None:
    """Captions of edited images, and what they say that each edit removed."""
    described = job.stage(stages["caption_edited"], planning.twins(images, edits, recaptions))
    deltas = planning.delta_tasks(images, edits, recaptions, described)
    job.stage(stages["delta"], deltas, _PLAIN_SHARD_ROWS)


def decided(settings: Settings, policies: PolicySet) -> dict[str, str]:
    """A hash for each stage of all that settings and policies say about its results: of what it does with a row, and
    of which rows it gets."""
    spoken, controls = policies.vocabulary.spoken, deciding(settings.editing.planned_controls)
    chosen = {
        "edit": [[policy.content_hash for policy in targets_of(settings, policies)], spoken, controls],
        "rewrite": [[*words, policies.vocabulary[words[0]].sensitive] for words in spoken],
    }
    return {
        name: content_id(stage.stage.version, stage.decides, chosen.get(name))
        for name, stage in ready_stages(settings, policies).items()
    }
