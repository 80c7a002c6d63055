"""TRL trains a tiny model of each real class that people name, both stages, with the vision part left alone or not."""

from pathlib import Path
from typing import Any

import pytest
import transformers
from PIL import Image
from safetensors.torch import load_file

from guard.contract.recipe import Recipe
from guard.export.write import export
from guard.training.grpo import train_grpo
from guard.training.sft import train_sft
from guard.training.watch import Watch, read_metrics
from models.chat import ChatRequest
from models.transformers_chat import TransformersChat
from storage.workspace import Workspace
from tests.drawing import draw
from tests.guard.conftest import synthetic
from tests.models.tiny_parts import byte_tokenizer, text_sizes, tiny_qwen, tiny_qwen3_vl

_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tiny_qwen3_5(tokenizer: Any) -> Any:
    token = tokenizer.convert_tokens_to_ids
    text = text_sizes(2, len(tokenizer)) | {
        "layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 8, "linear_value_head_dim": 8,
        "linear_num_key_heads": 2, "linear_num_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0, "partial_rotary_factor": 1.0,
                            "mrope_section": [2, 1, 1], "mrope_interleaved": True},
    }  # fmt: skip
    config = transformers.Qwen3_5Config(
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
                       "patch_size": 8, "num_position_embeddings": 64},
        text_config=text, image_token_id=token("<|image_pad|>"), video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"), vision_end_token_id=token("<|vision_end|>"),
    )  # fmt: skip
    return transformers.Qwen3_5ForConditionalGeneration(config)


CLASSES = {"qwen2.5-vl": tiny_qwen, "qwen3-vl": tiny_qwen3_vl, "qwen3.5": tiny_qwen3_5}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> str:
    workspace = Workspace.open(tmp_path_factory.mktemp("train") / "workspace")
    return export(synthetic(workspace, families=12), workspace).path


@pytest.fixture(scope="module", params=CLASSES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder, as it lies on the hub."""
    place, tokenizer = tmp_path_factory.mktemp("models") / request.param, byte_tokenizer()
    tokenizer.chat_template = _TEMPLATE
    tokenizer.eos_token = "<|im_end|>"
    CLASSES[request.param](tokenizer).save_pretrained(place)
    tokenizer.save_pretrained(place)
    transformers.Qwen2VLImageProcessorPil(patch_size=8, min_pixels=32 * 32, max_pixels=32 * 32).save_pretrained(place)
    return place


def recipe(folder: Path, **more: Any) -> Recipe:
    sft = {"batch_size": 2, "max_steps": 5, "save_every": 5}
    grpo = {"batch_size": 4, "generations": 2, "max_steps": 5, "save_every": 5, "max_new_tokens": 8, "lr": 1e-3}
    return Recipe.model_validate({"model": str(folder), "bf16": False, "gradient_checkpointing": False, "sft": sft,
                                  "grpo": grpo, "lora": {"rank": 4, "alpha": 8}, **more})  # fmt: skip


def changed(before: Path, after: Path) -> set[str]:
    """The weights that differ, by the name of the part that they belong to."""
    old, new = load_file(before / "model.safetensors"), load_file(after / "model.safetensors")
    assert old.keys() == new.keys()
    return {"vision" if "visual" in name else "language" for name in old if not bool((old[name] == new[name]).all())}


def test_five_steps_of_each_stage_leave_a_folder_that_answers(
    exported: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Watch, "check_reward", lambda self: None)  # random weights earn the same with every answer
    train_sft(exported, tmp_path / "sft", recipe(folder), tell=lambda line: None)
    assert changed(folder, tmp_path / "sft" / "model") == {"language"}
    start = str(tmp_path / "sft" / "model")
    train_grpo(exported, tmp_path / "grpo", recipe(folder), model=start, tell=lambda line: None, simulated=True)
    assert len(read_metrics(tmp_path / "grpo" / "metrics.csv")) == 5
    chat = TransformersChat(str(tmp_path / "grpo" / "model"))
    (reply,) = chat.generate([ChatRequest("Is it safe?", (Image.fromarray(draw(1)),), 4)])
    assert reply.completion_tokens > 0


@pytest.mark.parametrize(("method", "vision"), [("lora", "lora"), ("lora", True), ("full", True)])
def test_the_vision_part_learns_where_the_recipe_says_so(
    exported: str, folder: Path, tmp_path: Path, method: str, vision: bool | str
) -> None:
    train_sft(exported, tmp_path / "sft", recipe(folder, method=method, train_vision=vision), tell=lambda line: None)
    assert changed(folder, tmp_path / "sft" / "model") == {"language", "vision"}
