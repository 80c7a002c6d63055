"""What the micro networks are trained on, and the tokens it is written in."""

import json

import numpy as np
import pytest
import torch

from micro.networks import inpaint
from micro.networks.rewriter import draw_rewrite
from micro.networks.tokenizers_word import gemma_tokenizer, vlm_tokenizer
from micro.networks.vlm import to_patches
from micro.networks.vlm_data import CELL_PX, StepDataset, fill_holes, render
from micro.world import VOCABULARY


def test_every_text_survives_the_tokenizers() -> None:
    vlm, gemma = vlm_tokenizer(), gemma_tokenizer()
    texts = []
    for seed in range(40):
        sample, rewrite = render(seed, "train", (112, 144)), draw_rewrite(seed)
        texts += [(vlm, sample.locate), (vlm, sample.caption), (gemma, rewrite.prompt), (gemma, rewrite.target)]
    for tokenizer, text in texts:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == text


def test_samples_agree_with_their_dense_targets() -> None:
    order = list(VOCABULARY)
    for seed in range(20):
        sample = render(seed, "train", (144, 112))
        answer = json.loads(sample.locate)
        assert sample.image.shape == (112, 144, 3)
        shown = {order[number - 1] for number in sample.classes if number > 0}
        assert shown == {item["label"] for item in answer}
        for item in answer:
            x0, y0, x1, y1 = item["bbox_2d"]
            assert 0 <= x0 < x1 <= 144
            assert 0 <= y0 < y1 <= 112
            rows = sample.classes == order.index(item["label"]) + 1
            assert np.abs(sample.boxes[rows] - [x0, y0, x1, y1]).max() <= 0.51  # the answer is rounded


def test_a_step_is_drawn_again_alike_wherever_training_resumes() -> None:
    early, late = StepDataset(0, 20, 2, seed=3)[7], StepDataset(5, 20, 2, seed=3)[2]
    assert early["size"] == late["size"]
    assert torch.equal(early["images"], late["images"])
    assert early["locate"] == late["locate"]
    cells = (early["size"][0] // CELL_PX) * (early["size"][1] // CELL_PX)
    assert early["classes"].shape == (2, cells)


def test_holes_are_filled_from_their_border() -> None:
    image = np.full((40, 48, 3), 120, dtype=np.uint8)
    hole = np.zeros((40, 48), dtype=np.bool_)
    hole[10:30, 12:30] = True
    damaged = np.where(hole[..., None], 0, image).astype(np.uint8)
    assert np.abs(fill_holes(damaged, hole).astype(int) - 120).max() <= 1


def test_patches_match_the_stock_processor() -> None:
    from transformers import Qwen2VLImageProcessorPil

    from micro.networks import vlm

    images = np.random.default_rng(0).integers(0, 256, (2, 112, 144, 3), dtype=np.uint8)
    stock = Qwen2VLImageProcessorPil(
        patch_size=vlm.PATCH_PX, merge_size=2, temporal_patch_size=2, image_mean=list(vlm.IMAGE_MEAN),
        image_std=list(vlm.IMAGE_STD), size={"shortest_edge": vlm.MIN_PIXELS, "longest_edge": vlm.MAX_PIXELS},
    )  # fmt: skip
    wanted = stock(list(images), return_tensors="pt")["pixel_values"]
    assert torch.allclose(to_patches(torch.from_numpy(images)), wanted, atol=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_a_rewrite_adds_the_missing_findings_only(seed: int) -> None:
    example = draw_rewrite(seed)
    mentioned = VOCABULARY.mentioned
    assert mentioned(example.target) == mentioned(example.caption) | mentioned(example.findings)


def test_the_identity_autoencoder_passes_pixels_through() -> None:
    vae = inpaint.identity_autoencoder()
    pixels = torch.rand(1, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        latents = vae.encode(pixels).latents * vae.config.scaling_factor
        back = vae.decode(latents / vae.config.scaling_factor).sample
    assert torch.allclose(latents[:, :3], pixels, atol=1e-4)
    assert (back - pixels).abs().max() < 1 / 255


def test_a_low_strength_adds_little_noise() -> None:
    kept = inpaint.alphas_cumprod()
    sigma = np.sqrt(1 - kept)
    assert np.all(np.diff(kept) < 0)
    assert sigma[149] == pytest.approx(0.00925, rel=0.02)  # 150 of 200 steps from 0.001 to 0.012
    assert sigma[-1] > 0.998
