"""The list of stages, and what else knows of them."""

from typing import cast

from flows.engine.job import Job
from flows.history import _WORDS
from flows.pipeline import ORDER, STAGES, ready_stages, run_stages
from flows.sources import SourceShards
from micro.preset import preset
from micro.world import WORLD
from storage.rows import StoredRows
from storage.stage import ReadyStage
from storage.workspace import Workspace


class NothingComesOut:
    """In a job's place: remembers which stages were run, each of which gives no rows."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self.ran: list[str] = []

    def stage(self, stage: ReadyStage, tables: object, *_: object, **__: object) -> StoredRows:
        self.ran.append(stage.name)
        return StoredRows(self._workspace.ledger, stage.name, [], 0)


def test_every_stage_that_settings_can_ask_for_is_in_the_list_and_in_its_order():
    ready = ready_stages(preset(), WORLD)
    assert [stage.stage for stage in ready.values()] == list(STAGES)


def test_every_stage_of_the_list_is_run_in_its_order(tmp_path):
    job = NothingComesOut(Workspace.open(tmp_path))
    nothing = SourceShards([], 0)
    run_stages(cast(Job, job), ready_stages(preset(), WORLD), preset(), WORLD, nothing)
    assert job.ran == list(ORDER)


def test_what_a_stage_makes_of_an_image_can_be_shown():
    repeated = {"ingest", "edit", "second_look", "rewrite"}  # by the stage behind, whose rows hold what theirs do
    assert set(_WORDS) | repeated == set(ORDER)
