"""200 planted bad rewrites and 200 good ones through the rewriter's stage and the certificate."""

from collections import Counter

import numpy as np

from recaption.certify import RecaptionCertifyStage
from recaption.rewrite import RewriteStage
from recaption.settings import CertifySettings
from storage.records import Recaption, RewriteTask, to_table
from tests.fakes import FakeChat
from tests.recaption.planted import PLANTED, good_cases


def verdicts(cases):
    """The reason code of each case, "" for accepted, by id."""
    answers = {f"{case.task.caption}|{case.task.findings}": case.answer for case in cases}
    chat = FakeChat(lambda request: answers[request.prompt])
    stage = RewriteStage(chat, "{caption}|{findings}", 64, 32)
    rewritten = stage.run_shard(to_table([case.task for case in cases], RewriteTask))
    judged = RecaptionCertifyStage(CertifySettings()).run_shard(to_table(rewritten.ok, Recaption))
    refused = {r.key: r.code for r in [*rewritten.rejected, *judged.rejected]}
    return {case.task.image_id: refused.get(case.task.image_id, "") for case in cases}


def test_good_rewrites_pass():
    cases = good_cases(200, seed=0)
    refused = [code for code in verdicts(cases).values() if code]
    assert len(refused) <= 6, Counter(refused)  # 3 % of 200


def test_planted_faults_are_refused_for_the_right_reason():
    rng = np.random.default_rng(5)
    right = total = 0
    wrong = []
    for number, (name, (plant, codes)) in enumerate(PLANTED.items()):
        goods = good_cases(50, seed=1000 * (number + 1))
        bad = [type(case)(case.task, plant(case, rng)) for case in goods]
        bad = [b for b, g in zip(bad, goods, strict=True) if b.answer != g.answer][:25]
        assert len(bad) == 25
        for case_id, code in verdicts(bad).items():
            total += 1
            right += code in codes
            if code not in codes:
                wrong.append((name, code, next(c.answer for c in bad if c.task.image_id == case_id)))
    assert total == 200
    assert right >= 196, wrong  # 98 % of 200
