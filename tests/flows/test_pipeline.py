"""The list of stages, and what else knows of them."""

from flows.pipeline import STAGES, ready_stages
from micro.preset import preset
from micro.world import WORLD


def test_every_stage_that_settings_can_ask_for_is_in_the_list_and_in_its_order():
    ready = ready_stages(preset(), WORLD)
    assert [stage.stage for stage in ready.values()] == list(STAGES)
