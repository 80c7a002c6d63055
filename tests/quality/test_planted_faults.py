"""200 planted bad rewrites and 200 good ones through the rewriter's stage and the certificate."""

from collections import Counter

from tests.quality.planted import PLANTED, good_cases, planted_cases, reasons


def test_good_rewrites_pass():
    refused = [code for code in reasons(good_cases(200, seed=0)).values() if code]
    assert len(refused) <= 6, Counter(refused)  # 3 % of 200


def test_planted_faults_are_refused_for_the_right_reason():
    wrong, total = [], 0
    for number, (name, (_, codes)) in enumerate(PLANTED.items()):
        bad = planted_cases(name, 25, seed=1000 * (number + 1))
        found = reasons(bad)
        total += len(found)
        wrong += [(name, found[c.task.image_id], c.answer) for c in bad if found[c.task.image_id] not in codes]
    assert total == 200
    assert len(wrong) <= 4, wrong  # 2 % of 200
