"""The micro rewriter's recaptions of held-out scenes, against the scenes' truth."""

import pytest
import torch

import micro
from micro.scenes import draw_scene
from micro.wording import prompt
from micro.world import VOCABULARY
from models.chat import TransformersChat
from policies.phrases import findings_text
from recaption.certify import RecaptionCertifyStage
from recaption.rewrite import RewriteStage
from recaption.settings import CertifySettings
from storage.records import Recaption, RewriteTask, to_table

SCENES = 300


@pytest.mark.slow
def test_recaptions_of_held_out_scenes_are_certified_and_true() -> None:
    """The captions are the scenes' own, so this measures the rewriter and the certificate, not the captioner."""
    torch.set_num_threads(1)
    scenes = [draw_scene(seed, split="heldout", size=(160, 160)) for seed in range(5000, 5000 + SCENES)]
    tasks = []
    for number, scene in enumerate(scenes):
        hidden = [(item.kind, item.position) for item in scene.objects if VOCABULARY[item.kind].sensitive]
        attributes = tuple(sorted({kind for kind, _ in hidden}))
        tasks.append(RewriteTask(str(number), scene.caption, attributes, findings_text(hidden)))
    rewriter = TransformersChat(f"{micro.__path__[0]}/weights/rewriter", batch_size=32)
    drafts = RewriteStage(rewriter, prompt("rewrite"), 128, 64).run_shard(to_table(tasks, RewriteTask))
    certified = RecaptionCertifyStage(CertifySettings()).run_shard(to_table(drafts.ok, Recaption)).ok

    assert len(certified) >= 0.95 * SCENES
    shown = {str(number): {item.kind for item in scene.objects} for number, scene in enumerate(scenes)}
    assert all(VOCABULARY.mentioned(row.text) <= shown[row.image_id] for row in certified)  # nothing that the scene lacks
    restored = [row for row in drafts.ok if set(row.attributes) <= VOCABULARY.mentioned(row.text)]
    assert len(restored) >= 0.95 * SCENES
