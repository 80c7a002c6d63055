"""Attributes labelled once by people with stated errors, on drawn scenes: what the printed agreement is worth."""

from dataclasses import replace

import pytest

from benchmarks.attributes import CROWDS, scenes, study
from micro.people import FLAWLESS


@pytest.fixture(scope="module")
def truth():
    return scenes(250)


def test_without_errors_every_policy_is_labelled_and_right(truth):
    for row in study(truth, FLAWLESS):
        assert (row.agreement.share, row.agreement.compared, row.agreement.left_open) == (1.0, 250, 0)
        assert row.agreement.low > 0.98  # Wilson, 250 of 250: 0.985
        assert (row.right_by_attributes, row.labelled_by_attributes) == (1.0, 1.0)


def test_with_errors_the_agreement_says_how_right_the_labels_are(truth):
    rows = study(truth, CROWDS["careless"])
    for row in rows[1:]:  # the first policy forbids nothing
        assert 0.9 < row.agreement.share < 1
        assert row.agreement.low <= row.right_by_attributes <= min(1.0, row.agreement.high + 0.03)
        assert 0.7 < row.labelled_by_attributes < 1  # what is in doubt is left open
    assert sum(row.agreement.missed + row.agreement.invented for row in rows) > 10


def test_a_policy_that_people_misread_shows_in_its_own_row_only(truth):
    """Both must agree: right with 0.6 * 0.6, wrong (and not unsure) with 0.3 * 0.3, so 0.36 / 0.45 = 0.8 agree."""
    rows = {r.agreement.policy_id: r for r in study(truth, replace(FLAWLESS, fatigue=0, by_policy={"L3": 0.4}))}
    assert rows["L3"].agreement.share == pytest.approx(0.8, abs=0.11)  # 3 * sqrt(0.16 / 112)
    assert rows["L3"].agreement.high < 0.95
    assert rows["L3"].right_by_attributes == 1.0  # what is wrong are the verdicts
    assert {name for name, row in rows.items() if row.agreement.share == 1.0} == set(rows) - {"L3"}
