"""LoRAs, slices of the VAE, and what waits in main memory: on a small pipeline of its real class."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from models.image_edit import ImageEdit, PipelineEditor
from models.pipeline_load import placed
from models.settings import PictureSettings
from storage.errors import FatalError
from tests.drawing import draw
from tests.models.tiny_pipelines import build


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sd-inpaint-9", tmp_path_factory.mktemp("pipelines") / "sd")


@pytest.fixture(scope="module")
def lora(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights for the attention of the pipeline's UNet, as diffusers saves them."""
    import diffusers
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict

    pipeline = diffusers.DiffusionPipeline.from_pretrained(str(folder))
    torch.manual_seed(0)
    pipeline.unet.add_adapter(LoraConfig(r=4, target_modules=["to_q", "to_v"], init_lora_weights=False))
    made = tmp_path_factory.mktemp("lora")
    pipeline.save_lora_weights(str(made), unet_lora_layers=get_peft_model_state_dict(pipeline.unet))
    return next(made.glob("*.safetensors"))


def edited(folder: Path, **more: Any) -> Any:
    mask = np.zeros((64, 64), dtype=np.bool_)
    mask[16:48, 16:48] = True
    editor = PipelineEditor(PictureSettings(model=str(folder), steps=2, size_px=64, batch_size=2, **more))
    first, second = editor.edit([ImageEdit(draw(seed, (64, 64)), mask, "a wall", seed) for seed in (1, 2)])
    return np.stack([first, second])


def test_a_lora_changes_the_edits_by_its_weight(folder: Path, lora: Path) -> None:
    plain = edited(folder)
    strong, none = ({"path": lora, "weight": weight} for weight in (1.0, 0.0))
    assert (edited(folder, loras=[strong]) != plain).any()
    np.testing.assert_array_equal(edited(folder, loras=[none]), plain)


def test_a_lora_is_part_of_the_fingerprint_by_its_content(folder: Path, lora: Path, tmp_path: Path) -> None:
    def fingerprint(**more: Any) -> str:
        return PipelineEditor(PictureSettings(model=str(folder), **more)).fingerprint

    copied = tmp_path / "other name.safetensors"
    copied.write_bytes(lora.read_bytes())
    one = fingerprint(loras=[{"path": lora}])
    assert one == fingerprint(loras=[{"path": copied}])
    assert len({one, fingerprint(), fingerprint(loras=[{"path": lora, "weight": 0.5}])}) == 3
    assert fingerprint(offload="networks", vae_slices=True) == fingerprint()
    with pytest.raises(FatalError, match="do not exist"):
        fingerprint(loras=[{"path": tmp_path / "gone.safetensors"}])


def test_slices_of_the_vae_change_no_pixel(folder: Path) -> None:
    np.testing.assert_allclose(edited(folder, vae_slices=True), edited(folder), atol=1)


class Moved:
    """Notes where a pipeline is put."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def to(self, device: str) -> "Moved":
        self.calls.append(device)
        return self

    def enable_model_cpu_offload(self) -> None:
        self.calls.append("networks")

    def enable_sequential_cpu_offload(self) -> None:
        self.calls.append("layers")


@pytest.mark.parametrize("offload", ["networks", "layers"])
def test_what_waits_in_main_memory_is_not_moved_to_the_card_first(offload: Any) -> None:
    assert placed(Moved(), offload, has_gpu=True).calls == [offload]
    assert placed(Moved(), offload, has_gpu=False).calls == ["cpu"]
    assert placed(Moved(), "none", has_gpu=True).calls == ["cuda"]


def test_an_endpoint_takes_none_of_them(lora: Path) -> None:
    endpoint = {"base_url": "http://127.0.0.1:9/v1"}
    for more in ({"loras": [{"path": lora}]}, {"offload": "layers"}, {"vae_slices": True}):
        with pytest.raises(ValidationError, match="for a model in this process"):
            PictureSettings(model="m", endpoint=endpoint, size_px=64, **more)
