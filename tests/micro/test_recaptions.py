"""The micro rewriter's recaptions of held-out scenes, against the scenes' truth."""

import pytest
import torch

from micro import WEIGHTS
from micro.scenes import draw_scene
from micro.wording import prompt
from micro.world import VOCABULARY
from models.transformers_chat import TransformersChat
from recaption.certify import RecaptionCertifyStage
from recaption.rewrite import RewriteStage
from recaption.settings import MinimalitySettings, RewriteSettings
from storage.records.recaption import Placed, Recaption, RewriteTask
from storage.records.tables import to_table
from storage.workspace import Workspace

SCENES = 300


@pytest.mark.slow
def test_recaptions_of_held_out_scenes_are_certified_and_true(workspace: Workspace) -> None:
    """The captions are the scenes' own, so this measures the rewriter and the certificate, not the captioner."""
    torch.set_num_threads(1)
    scenes = [draw_scene(seed, split="heldout", size=(160, 160)) for seed in range(5000, 5000 + SCENES)]
    tasks = []
    for number, scene in enumerate(scenes):
        hidden = [Placed(item.kind, item.position) for item in scene.objects if VOCABULARY[item.kind].sensitive]
        attributes = tuple(sorted({found.attribute for found in hidden}))
        tasks.append(RewriteTask(str(number), scene.caption, attributes, tuple(hidden)))
    settings = RewriteSettings(model=str(WEIGHTS / "rewriter"), max_new_tokens=128, batch_size=64)
    rewriter = TransformersChat(settings.model, batch_size=32)
    stage = RewriteStage(workspace, rewriter, settings, VOCABULARY, prompt=prompt("rewrite"))
    drafts = stage.run_shard(to_table(tasks, RewriteTask))
    certified = RecaptionCertifyStage(MinimalitySettings(), VOCABULARY).run_shard(to_table(drafts.ok, Recaption)).ok

    assert len(certified) >= 0.95 * SCENES
    shown = {str(number): {item.kind for item in scene.objects} for number, scene in enumerate(scenes)}
    # nothing that the scene lacks
    assert all(VOCABULARY.mentioned(row.text) <= shown[row.image_id] for row in certified)
    restored = [row for row in drafts.ok if set(row.attributes) <= VOCABULARY.mentioned(row.text)]
    assert len(restored) >= 0.95 * SCENES
