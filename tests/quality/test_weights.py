"""The shipped weights: stock classes load them, and their scores have not fallen."""

import json
from pathlib import Path

import pytest
import torch

import micro
from micro.networks.evaluate import (
    caption_scores,
    inpaint_scores,
    iou,
    locate_scores,
    micro_inpainter,
    removal_scores,
    rewriter_scores,
    vlm_scores,
)
from models.image_edit import PipelineEditor
from models.transformers_chat import TransformersChat

WEIGHTS = Path(micro.__path__[0]) / "weights"
LOCATE_FLOOR, CAPTION_FLOOR = 0.9, 0.9


@pytest.fixture(scope="module")
def vlm() -> TransformersChat:
    torch.set_num_threads(1)
    return TransformersChat(str(WEIGHTS / "vlm"), batch_size=32)


@pytest.fixture(scope="module")
def inpainter() -> PipelineEditor:
    return micro_inpainter(WEIGHTS)


def test_the_committed_weights_stay_small() -> None:
    assert sum(path.stat().st_size for path in WEIGHTS.rglob("*") if path.is_file()) < 25_000_000


def test_stock_classes_load_the_folders() -> None:
    from diffusers import AutoPipelineForInpainting, StableDiffusionInpaintPipeline
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        Gemma3ForCausalLM,
        Qwen2_5_VLForConditionalGeneration,
    )

    assert isinstance(AutoModelForImageTextToText.from_pretrained(WEIGHTS / "vlm"), Qwen2_5_VLForConditionalGeneration)
    assert isinstance(AutoModelForCausalLM.from_pretrained(WEIGHTS / "rewriter"), Gemma3ForCausalLM)
    assert isinstance(AutoPipelineForInpainting.from_pretrained(WEIGHTS / "inpaint"), StableDiffusionInpaintPipeline)


def test_the_processor_folder_names_the_stock_classes() -> None:
    config = json.loads((WEIGHTS / "vlm" / "processor_config.json").read_text())
    assert config["processor_class"] == "Qwen2_5_VLProcessor"
    assert {"image_processor", "video_processor"} <= config.keys()


def test_the_vlm_still_locates_and_captions(vlm: TransformersChat) -> None:
    scores = vlm_scores(vlm, 40)  # floors stand well below the card's scores: 40 scenes are a small sample
    assert scores["locate"]["recall"] >= LOCATE_FLOOR
    assert scores["locate"]["precision"] >= LOCATE_FLOOR
    assert scores["locate"]["empty_scenes_silent"] >= 0.8
    assert scores["caption"]["facts_right"] >= CAPTION_FLOOR
    assert scores["caption"]["nothing_sensitive_told"] >= 0.9


def test_the_rewriter_still_rewrites() -> None:
    assert rewriter_scores(TransformersChat(str(WEIGHTS / "rewriter"), batch_size=40), 40)["exact"] >= 0.85


def test_the_inpainter_still_repairs(vlm: TransformersChat, inpainter: PipelineEditor) -> None:
    scores = inpaint_scores(inpainter, 12)
    assert scores["hole_psnr_db"] >= scores["biharmonic_psnr_db"] - 3
    assert removal_scores(vlm, inpainter, 12)["object_gone"] >= 0.8


def test_iou() -> None:
    assert iou((0, 0, 2, 2), (0, 0, 2, 2)) == 1
    assert iou((0, 0, 2, 2), (1, 0, 3, 2)) == pytest.approx(1 / 3)  # 2 shared of 6
    assert iou((0, 0, 1, 1), (2, 2, 3, 3)) == 0


def test_scores_of_no_answer_are_low() -> None:
    from micro.scenes import draw_scene
    from models.chat import ChatReply

    scenes = [draw_scene(seed, split="heldout", size=(128, 128)) for seed in range(6)]
    broken = [ChatReply("[{", "stop", ((128, 128),), 1, 1, 0.0)] * 6
    scores = locate_scores(scenes, broken)
    assert scores["recall"] == 0
    assert scores["empty_scenes_silent"] == 0
    assert caption_scores(scenes, broken)["facts_right"] == 0
    perfect = [ChatReply(scene.caption, "stop", ((128, 128),), 1, 1, 0.0) for scene in scenes]
    assert caption_scores(scenes, perfect) | {"facts": 0} == {
        "facts_right": 1, "facts": 0, "exact": 1, "nothing_sensitive_told": 1
    }  # fmt: skip
