"""Yields of the edit stage, counted over every candidate."""

import dataclasses

from guard.export.dataset import Dataset
from guard.export.summary import edit_yields


def test_every_candidate_counts_by_kind_attribute_and_size(dataset: Dataset) -> None:
    first = dataset.pairs[0]
    assert first.certificate is not None
    small = dataclasses.replace(first.certificate, mask_area_ratio=0.01)
    tried = (
        dataclasses.replace(first, edit_id="a", target_attributes=("blade", "dice")),
        dataclasses.replace(
            first, edit_id="b", target_attributes=("blade",), verdict="rejected", reasons=("unchanged",)
        ),
        dataclasses.replace(first, edit_id="c", target_attributes=(), kind="sham", certificate=small),
    )
    found = {(y.group, y.name): y for y in edit_yields(dataclasses.replace(dataset, candidates=tried))}
    blade, dice = found["attribute", "blade"], found["attribute", "dice"]
    assert (blade.tried, blade.accepted, blade.reasons) == (2, 1, (("unchanged", 1),))
    assert (dice.tried, dice.accepted, dice.reasons) == (1, 1, ())
    assert found["kind", "sham"].tried == 1
    assert found["region", "under 2 % of the image"].tried == 1
    assert found["region", "8 to 20 %"].tried == 2  # the fixture masks 15 % of the image


def test_without_candidates_there_is_no_table(dataset: Dataset) -> None:
    assert edit_yields(dataset) == []
