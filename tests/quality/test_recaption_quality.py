"""The benchmark's end-to-end run on a few of its scenes: the micro models' own captions and findings."""

import torch

from benchmarks.recaption_quality import end_to_end


def test_recaptions_of_held_out_scenes_are_certified_complete_and_true(tmp_path):
    torch.set_num_threads(1)
    found = end_to_end(str(tmp_path), 40, seed=70_100)
    assert found.certified >= 0.95 * 40, found.refused
    assert found.edited >= 25  # most scenes have something to put in
    assert (found.invented, found.misplaced) == ({}, {})
    assert found.restored >= 0.95 * found.suppressed
