"""Weights in int8: on a small pipeline and a small chat model of their real classes."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from micro import WEIGHTS
from micro.scenes import draw_scene
from micro.wording import prompt
from models.chat import ChatRequest
from models.chat_load import load_chat
from models.image_edit import ImageEdit, PipelineEditor
from models.pipeline_load import load_pipeline
from models.settings import ChatSettings, PictureSettings
from models.transformers_chat import TransformersChat
from storage.errors import FatalError
from tests.drawing import draw
from tests.models.tiny_pipelines import build

VLM = str(WEIGHTS / "vlm")
# Not among the suite's own packages: where it is installed, every command that imports transformers loads it, too.
with_torchao = pytest.mark.skipif(find_spec("torchao") is None, reason="torchao is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sd-inpaint-9", tmp_path_factory.mktemp("pipelines") / "sd")


def linear_bytes(network: Any) -> int:
    """Of the weights of linear layers, as they lie in memory."""
    total = 0
    for layer in network.modules():
        if isinstance(layer, torch.nn.Linear):
            weight = layer.weight
            parts = [weight.qdata, weight.scale] if hasattr(weight, "qdata") else [weight]
            total += sum(part.numel() * part.element_size() for part in parts)
    return total


@with_torchao
def test_a_pipelines_networks_shrink_and_its_autoencoder_stays(folder: Path) -> None:
    plain = load_pipeline(str(folder))
    small = load_pipeline(str(folder), more=PictureSettings(model=str(folder), quantize="int8"))
    for part in ("unet", "text_encoder"):
        assert linear_bytes(getattr(small, part)) < 0.5 * linear_bytes(getattr(plain, part))  # 4 bytes to 1 and a scale
    for before, after in zip(plain.vae.parameters(), small.vae.parameters(), strict=True):
        assert torch.equal(before, after)


@with_torchao
def test_edits_stay_close(folder: Path) -> None:
    mask = np.zeros((64, 64), dtype=np.bool_)
    mask[16:48, 16:48] = True

    def edited(**more: Any) -> Any:
        editor = PipelineEditor(PictureSettings(model=str(folder), steps=2, size_px=64, **more))
        (one,) = editor.edit([ImageEdit(draw(1, (64, 64)), mask, "a wall", 1)])
        return np.asarray(one, dtype=np.int16)

    difference = np.abs(edited() - edited(quantize="int8"))
    assert difference.max() > 0
    assert difference.mean() < 8  # levels of 255


@with_torchao
def test_a_chat_model_shrinks_and_answers_alike() -> None:
    plain, small = (load_chat(VLM, None, "auto", None, quantize).model for quantize in (None, "int8"))
    assert linear_bytes(small) < 0.3 * linear_bytes(plain)
    picture = Image.fromarray(draw_scene(1, split="heldout", size=(128, 96)).image)
    request = ChatRequest(prompt("caption"), (picture,), 48)
    texts = [TransformersChat(VLM, quantize=quantize).generate([request])[0].text for quantize in (None, "int8")]
    assert texts[0].split()[:4] == texts[1].split()[:4]


def test_bits_are_part_of_a_fingerprint_and_their_absence_is_not(folder: Path) -> None:
    def editor(**more: Any) -> str:
        return PipelineEditor(PictureSettings(model=str(folder), **more)).fingerprint

    assert editor() != editor(quantize="int8")
    assert "quantize" not in PictureSettings(model=str(folder)).decided_by()
    assert TransformersChat(VLM).fingerprint != TransformersChat(VLM, quantize="int8").fingerprint
    assert "quantize" not in ChatSettings(model=VLM).decided_by()
    assert ChatSettings(model=VLM, quantize="int8").decided_by()["quantize"] == "int8"


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: ChatSettings(model="m", quantize="int8", server={"base_url": "http://x.test/v1"}), "other weights"),
        (
            lambda: PictureSettings(model="m", size_px=64, quantize="int8", endpoint={"base_url": "http://x.test/v1"}),
            "a server has its own",
        ),
        (lambda: PictureSettings(model="m", quantize="int8", loras=[{"path": __file__}]), "fuse the loras"),
        (lambda: ChatSettings(model="m", quantize="int2"), "int8"),
    ],
)
def test_what_does_not_go_together_is_a_sentence(make: Any, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        make()


def test_without_torchao_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torchao.quantization", None)
    with pytest.raises(FatalError, match=r"\.\[quantized\]"):
        load_chat(VLM, None, "auto", None, "int8")
