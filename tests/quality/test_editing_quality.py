"""The benchmark's aims on fewer scenes: real stages, real micro networks, drawn truth, planted faults."""

import pytest
import torch

from benchmarks.editing_quality import FAULTS, PAIRS_PER_FAULT, Quality, measure_quality

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def quality(tmp_path_factory) -> Quality:
    torch.set_num_threads(1)
    # Two scenes in three end as an accepted pair, so these leave more than the fifty that faults are planted into.
    return measure_quality(str(tmp_path_factory.mktemp("quality")), 85, 50_000)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_rejected_for_its_own_reason_on_fifty_pairs(quality, fault):
    share = quality.shares[f"fault: {fault}"]
    assert share.whole == PAIRS_PER_FAULT
    assert share.part == PAIRS_PER_FAULT, quality.rejected_for[fault]


def test_accepted_pairs_reach_the_aims(quality):
    missed = {name: str(share) for name, share in quality.shares.items() if not share.reached}
    assert not missed


def test_controls_pass_the_same_gates(quality):
    for kind in ("sham", "roundtrip"):
        share = quality.shares[f"{kind} controls accepted"]
        assert share.part > 0.8 * share.whole > 0
