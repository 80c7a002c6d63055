"""On a GPU: the edit stage and in-process captions against the bare networks, with networks of real size.

    PYTHONPATH=. python benchmarks/gpu.py            # under six minutes on one H200-class card
    PYTHONPATH=. python benchmarks/gpu.py --tiny     # the same steps on a CPU, to see that they run

Weights are random: they cost what real ones cost, and no answer ends early. Each pair of figures is of one run, the two
ways in turns. Prints a table in Markdown with the card's name.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PilImage

from benchmarks.device import SIZES, photographs
from editing.edit import EditStage
from editing.editors import WindowEditor
from models.chat import ChatRequest
from models.chat_load import LoadedChat, load_chat
from models.image_edit import ImageEdit, PipelineEditor
from models.settings import PictureSettings
from models.transformers_chat import TransformersChat
from storage.records.editing import EditTask
from storage.records.tables import to_table
from storage.workspace import Workspace
from tests.fakes import edit_settings
from tests.models.tiny_parts import byte_tokenizer, clip_tokenizer

_TO_CAPTION = [(640 + 96 * n, 480 + 64 * n) for n in range(12)]  # of the pictures to be captioned
_TEMPLATE = (
    "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endfor %}"
)


@dataclass(frozen=True)
class Scale:
    """How large the networks are, and how much they are given."""

    side_px: int
    steps: int
    batch: int
    images: int
    captions: int
    tokens: int
    unet: dict[str, Any]
    text: tuple[int, int]  # width and layers of SDXL's two text encoders
    language: dict[str, Any]
    vision: dict[str, Any]


REAL = Scale(
    1024, 12, 8, 24, 64, 96,
    {"block_out_channels": (320, 640, 1280), "transformer_layers_per_block": [1, 2, 10],
     "attention_head_dim": [5, 10, 20], "cross_attention_dim": 2048, "layers_per_block": 2,
     "addition_time_embed_dim": 256},
    (1280, 32),
    {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
     "num_key_value_heads": 2},
    {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 2048,
     "patch_size": 14, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31]},
)  # fmt: skip
TINY = Scale(
    64, 2, 2, 4, 12, 4,
    {"block_out_channels": (8, 16, 16), "transformer_layers_per_block": 1, "attention_head_dim": 8,
     "cross_attention_dim": 64, "layers_per_block": 1, "addition_time_embed_dim": 8, "norm_num_groups": 4},
    (32, 1),
    {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
     "num_key_value_heads": 2},
    {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16, "patch_size": 14,
     "window_size": 112, "fullatt_block_indexes": [0]},
)  # fmt: skip


def editor(scale: Scale) -> Any:
    """SDXL inpainting with random weights."""
    import diffusers
    import transformers

    width, layers = scale.text
    pooled = scale.unet["cross_attention_dim"] - width

    def text(size: int, *, projected: bool) -> Any:
        config = transformers.CLIPTextConfig(
            vocab_size=len(clip_tokenizer()), hidden_size=size, intermediate_size=4 * size, projection_dim=size,
            num_hidden_layers=layers, num_attention_heads=max(1, size // 64), max_position_embeddings=77,
        )  # fmt: skip
        kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
        return kind(config)

    channels = (128, 256, 512, 512) if scale is REAL else (8,) * 4
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=channels, norm_num_groups=32 if scale is REAL else 4, layers_per_block=2,
        latent_channels=4, sample_size=scale.side_px,
    )  # fmt: skip
    time_embed = scale.unet["addition_time_embed_dim"]
    unet = diffusers.UNet2DConditionModel(
        sample_size=scale.side_px // 8, in_channels=9, out_channels=4, addition_embed_type="text_time",
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), use_linear_projection=True,
        projection_class_embeddings_input_dim=width + 6 * time_embed, **scale.unet,
    )  # fmt: skip
    return diffusers.StableDiffusionXLInpaintPipeline(
        vae=vae, text_encoder=text(pooled, projected=False), text_encoder_2=text(width, projected=True),
        tokenizer=clip_tokenizer(), tokenizer_2=clip_tokenizer(), unet=unet,
        scheduler=diffusers.EulerDiscreteScheduler(), add_watermarker=False,
    )  # fmt: skip


def captioner(scale: Scale, folder: Path) -> str:
    """A folder with a Qwen2.5-VL of random weights."""
    import transformers

    tokenizer = byte_tokenizer()
    token = tokenizer.convert_tokens_to_ids
    half = scale.language["hidden_size"] // scale.language["num_attention_heads"] // 2
    sections = [half // 4, half * 3 // 8, half - half // 4 - half * 3 // 8]
    rope = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections}
    sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": 8192, "rope_parameters": rope}
    config = transformers.Qwen2_5_VLConfig(
        vision_config=scale.vision, text_config=scale.language | sizes, image_token_id=token("<|image_pad|>"),
        video_token_id=token("<|video_pad|>"), vision_start_token_id=token("<|vision_start|>"),
        vision_end_token_id=token("<|vision_end|>"),
    )  # fmt: skip
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        network = transformers.Qwen2_5_VLForConditionalGeneration(config)
    network.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.chat_template = _TEMPLATE
    tokenizer.save_pretrained(folder)
    transformers.Qwen2VLImageProcessorPil(patch_size=14, min_pixels=56 * 56, max_pixels=1003520).save_pretrained(folder)
    return str(folder)


class Watch:
    """How busy the card is, asked ten times a second; None without one."""

    def __enter__(self) -> "Watch":
        self._shares: list[int] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        while torch.cuda.is_available() and not self._end.wait(0.1):
            self._shares.append(torch.cuda.utilization())

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    @property
    def busy(self) -> str:
        return f"{np.mean(self._shares):.0f} %" if self._shares else "-"


def timed(work: Callable[[], object]) -> tuple[float, str]:
    """Seconds, and how busy the card was."""
    with Watch() as watch:
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter() - began, watch.busy


def row(name: str, count: int, ours: tuple[float, str], bare: tuple[float, str], aim: str) -> str:
    rates = (f"{count / seconds:.2f}/s, {busy}" for seconds, busy in (ours, bare))
    cells = (*rates, f"{bare[0] / ours[0]:.2f}", aim)
    return f"| {name} | {' | '.join(cells)} |"


def edits(scale: Scale, made: Any) -> list[str]:
    """The edit stage against the pipeline on the stage's own windows, at two ranges of picture sizes."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    pipeline = made.to(device, torch.bfloat16 if device == "cuda" else torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    settings = PictureSettings(
        model="sdxl", size_px=scale.side_px, steps=scale.steps, strength=1.0, guidance_scale=1.0, batch_size=scale.batch
    )
    model = PipelineEditor(settings, load=lambda *_: pipeline)
    lines = []
    for name, sizes, aim in (("1.5 to 12 megapixels", SIZES, "0.9"), ("1024 x 768", [(1024, 768)], "0.95")):
        with tempfile.TemporaryDirectory() as root:
            workspace = Workspace.open(root)
            tasks = photographs(workspace, scale.images, sizes)
            window = WindowEditor(model, context_ratio=1.8)
            stage = EditStage(workspace, window, edit_settings(batch_size=scale.batch, size_px=scale.side_px))
            stage.run_shard(to_table(tasks[: scale.batch], EditTask))
            rows = to_table(tasks, EditTask)
            ours = timed(partial(stage.run_shard, rows))
        side = scale.side_px
        mask = np.zeros((side, side), dtype=np.bool_)
        mask[side // 4 : side // 2, side // 4 : side // 2] = True
        noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        windows = [ImageEdit(noise, mask, "a wall", seed) for seed in range(scale.images)]
        bare = timed(partial(in_batches, pipeline, windows, scale))
        lines.append(row(f"edit stage, photographs of {name}", scale.images, ours, bare, aim))
    return lines


def in_batches(pipeline: Any, windows: list[ImageEdit], scale: Scale) -> None:
    """The pipeline alone, on ready windows."""
    for start in range(0, len(windows), scale.batch):
        batch = windows[start : start + scale.batch]
        with torch.inference_mode():
            pipeline(
                prompt=[w.prompt for w in batch], image=[PilImage.fromarray(w.image) for w in batch],
                mask_image=[PilImage.fromarray(w.mask.astype(np.uint8) * 255) for w in batch],
                num_inference_steps=scale.steps, strength=1.0, guidance_scale=1.0, height=scale.side_px,
                width=scale.side_px, generator=[torch.Generator("cpu").manual_seed(w.seed) for w in batch],
                output_type="np",
            )  # fmt: skip


def captions(scale: Scale, folder: str) -> list[str]:
    """In-process captions against the network on padded batches, at one picture size and at twelve."""
    chat, loaded = TransformersChat(folder, batch_size=scale.batch * 2), load_chat(folder, None, "auto", None, None)
    lines = []
    for name, sizes in (("one picture size", _TO_CAPTION[:1]), ("twelve picture sizes", _TO_CAPTION)):
        noise = np.random.default_rng(0)
        shapes = [sizes[n % len(sizes)] for n in range(scale.captions)]
        pictures = [
            PilImage.fromarray(noise.integers(0, 256, (height, width, 3), dtype=np.uint8)) for width, height in shapes
        ]
        requests = [ChatRequest("Describe it.", (picture,), scale.tokens) for picture in pictures]
        chat.generate(requests[: scale.batch])
        ours = timed(partial(chat.generate, requests))
        bare = timed(partial(generate, loaded, pictures, scale))
        lines.append(row(f"captions, {name}", scale.captions, ours, bare, "0.95"))
    return lines


def generate(loaded: LoadedChat, pictures: list[PilImage.Image], scale: Scale) -> None:
    """The network alone, in batches in the order given."""
    text = "<|vision_start|><|image_pad|><|vision_end|>Describe it."
    for start in range(0, len(pictures), 2 * scale.batch):
        batch = pictures[start : start + 2 * scale.batch]
        inputs = loaded.processor(
            text=[text] * len(batch), images=batch, text_kwargs={"padding": True}, return_tensors="pt"
        )
        with torch.inference_mode():
            loaded.model.generate(
                **inputs.to(loaded.model.device), max_new_tokens=scale.tokens, do_sample=False,
                pad_token_id=loaded.tokenizer.pad_token_id,
            )  # fmt: skip


def measure(scale: Scale) -> list[str]:
    """The table's rows."""
    import diffusers

    diffusers.logging.set_verbosity_error()  # it warns at each move of a pipeline that was not loaded from a file
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        pipeline = editor(scale)
    lines = edits(scale, pipeline)
    del pipeline
    with tempfile.TemporaryDirectory() as folder:
        return [*lines, *captions(scale, captioner(scale, Path(folder)))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="networks so small that a CPU runs them")
    scale = TINY if parser.parse_args().tiny else REAL
    if scale is REAL and not torch.cuda.is_available():
        parser.error("no GPU is there; --tiny runs the same steps on a CPU")
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU, tiny networks: no measure of anything"
    head = f"| {card} | guardset, card busy | bare | ratio | aim |\n|---|---|---|---|---|"
    sys.stdout.write("\n".join([head, *measure(scale)]) + "\n")


if __name__ == "__main__":
    main()
