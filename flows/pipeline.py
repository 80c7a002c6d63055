"""The pipeline: every stage of a build in order, and what goes from one to the next. Read this first.

    ingest ─ dedup ─ locate ─┬─ edit ─ certify ─ select ────────────────────────────┐
                             └─ caption ─ second_look ─ rewrite ─ certify_recaption ┴─ caption_edited ─ delta

Each stage is declared in its own package. Whoever needs a fact about one (what it needs, what decides its output, what
people read about it) asks the stage. To add one, declare it and give it a line of `STEPS`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from editing.stages import CERTIFY, EDIT, LOCATE, SELECT
from flows import planning
from flows.engine.job import Job
from flows.planning import Rows
from flows.settings import Settings
from flows.sources import SourceShards
from flows.values import Values
from policies.engine import PolicySet
from recaption.stages import CAPTION, CAPTION_EDITED, CERTIFY_RECAPTION, DELTA, REWRITE, SECOND_LOOK
from storage.records.ids import content_id
from storage.stage import ReadyStage, Stage
from storage.stages import DEDUP, INGEST

Ready = Mapping[str, ReadyStage]
"""Stages by name, each with the values that it works with."""

_PLAIN_SHARD_ROWS = 2000  # of a stage whose rows are small and cost nothing
_SHOWN = ("image_id", "blob")
_OF_SOURCE = ("source_key", "meta_json")  # the name by which a manifest lists an image, and boxes that came with it


@dataclass(frozen=True)
class Made:
    """What the stages so far make, by name; `shards` are what ingest reads."""

    values: Values
    shards: Rows
    rows: dict[str, Rows] = field(default_factory=dict)

    def __getitem__(self, stage: str) -> Rows:
        return self.rows[stage]

    def to_locate(self) -> Rows:
        known = _SHOWN + (_OF_SOURCE if self.values.looking.settings.knows_originals_only else ())
        return planning.pictures(self["dedup"], known)

    def to_edit(self) -> Rows:
        targets, vocabulary = self.values.targets, self.values.policies.vocabulary
        controls = self.values.settings.editing.planned_controls
        return planning.edit_tasks(self["dedup"], self["locate"], targets, vocabulary, controls)

    def to_caption(self) -> Rows:
        return planning.pictures(planning.located_images(self["dedup"], self["locate"]), _SHOWN)

    def left_out(self) -> Rows:
        """What each caption leaves out."""
        vocabulary = self.values.policies.vocabulary
        return planning.rewrite_tasks(self["dedup"], self["locate"], self["caption"], vocabulary)

    def twins(self) -> Rows:
        return planning.twins(self["dedup"], self["select"], self["certify_recaption"])

    def texts(self) -> Rows:
        captions = self["caption_edited"]
        return planning.delta_tasks(self["dedup"], self["select"], self["certify_recaption"], captions)


@dataclass(frozen=True)
class Step:
    """A stage's place: the values that it works with (None: this build does without it), and its rows, of what those
    before made. `how` is how `Job.stage` cuts them; `rows_decided_by` what decides which rows it gets."""

    stage: Stage[Any]
    values: Callable[[Values], Any]
    rows: Callable[[Made], Rows]
    how: Mapping[str, Any] = field(default_factory=dict)
    rows_decided_by: Callable[[Values], Any] = lambda _: None


_CHOOSING = {"shard_rows": _PLAIN_SHARD_ROWS, "together": ("image_id", "kind")}  # the best of an image's candidates

STEPS = (
    Step(INGEST, lambda v: v.ingesting, lambda made: made.shards, {"as_given": True}),
    Step(DEDUP, lambda v: v.settings.dedup, lambda made: made["ingest"]),
    Step(LOCATE, lambda v: v.looking, Made.to_locate),
    Step(EDIT, lambda v: v.settings.editing.edit, Made.to_edit, {}, lambda v: v.edited_rows_decided_by),
    Step(CERTIFY, lambda v: v.certifying, lambda made: made["edit"]),
    Step(SELECT, lambda v: v.policies, lambda made: made["certify"], _CHOOSING),
    Step(CAPTION, lambda v: v.captioning, Made.to_caption),
    Step(SECOND_LOOK, lambda v: v.second_look, Made.left_out),
    Step(
        REWRITE,
        lambda v: v.rewriting,
        lambda made: made["second_look"] if "second_look" in made.rows else made.left_out(),
        {},
        lambda v: v.rewritten_rows_decided_by,
    ),
    Step(CERTIFY_RECAPTION, lambda v: v.judging, lambda made: made["rewrite"]),
    Step(CAPTION_EDITED, lambda v: v.captioning_edited, Made.twins),
    Step(DELTA, lambda v: v.comparing, Made.texts, {"shard_rows": _PLAIN_SHARD_ROWS}),
)

STAGES: tuple[Stage[Any], ...] = tuple(step.stage for step in STEPS)

ORDER: Sequence[str] = tuple(stage.name for stage in STAGES)


def ready_stages(settings: Settings, policies: PolicySet, source: str = "") -> Ready:
    """The stages that these settings ask for, in order; `source` is where ingest reads. Raises FatalError for a prompt
    or a list that cannot be read, once somebody asks what decides a stage."""
    values = Values(settings, policies, source)
    given = ((step.stage, step.values(values)) for step in STEPS)
    return {stage.name: stage.using(value) for stage, value in given if value is not None}


def run_stages(job: Job, stages: Ready, settings: Settings, policies: PolicySet, plan: SourceShards) -> Rows:
    """Every stage up to publishing, on the planned shards of a source; the accepted edits, controls among them. Where
    stages overlap, this comes back once all are under way."""
    made = Made(Values(settings, policies), plan.shards)
    for step in STEPS:
        name = step.stage.name
        if name in stages:
            made.rows[name] = job.stage(stages[name], step.rows(made), **step.how)
    return made["select"]


def decided(settings: Settings, policies: PolicySet) -> dict[str, str]:
    """A hash for each stage of all that settings and policies say about its results: of what it does with a row, and
    of which rows it gets."""
    values, stages = Values(settings, policies), ready_stages(settings, policies)
    return {
        name: content_id(stage.version, stages[name].decides, step.rows_decided_by(values))
        for step in STEPS
        if (name := (stage := step.stage).name) in stages
    }
