"""Loading a diffusers pipeline that edits, from a folder or a hub id."""

import importlib.util
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from models.pipeline_traits import read_traits
from models.quantize import in_int8
from models.settings import Dtype, Lora, Offload, PictureSettings
from storage.errors import FatalError, install

_PICTURE_TEXT_PROCESSORS = {
    "Qwen2VLProcessor": "qwen2_5_vl",
    "Qwen2_5_VLProcessor": "qwen2_5_vl",
    "Qwen3VLProcessor": "qwen3_vl",
}
"""Processors with a video part, which needs torchvision, and the type of model whose processor does without it."""
_NEEDS_TORCHVISION = ("PixtralProcessor",)  # of FLUX.2; nothing does without
_LACKS_TORCHVISION = re.compile("torchvision|Placeholder", re.IGNORECASE)  # transformers puts one in a class's place
_WAY_OUT = f"Install torchvision in the build that fits your torch: {install('gpu')}."


def load_pipeline(
    source: str, revision: str | None = None, dtype: Dtype = "auto", more: PictureSettings | None = None
) -> Any:
    """A pipeline that edits, on the GPU if there is one ("auto": in bfloat16), else on the CPU (float32).

    Of `more` it gets its LoRAs, its bits, and what is said of its place in memory.

    A text-to-image pipeline is turned into its inpainting sibling, which shares the weights.
    Raises FatalError when `source` cannot be loaded or cannot edit.
    """
    import diffusers
    import torch

    cuda = torch.cuda.is_available()
    chosen = ("bfloat16" if cuda else "float32") if dtype == "auto" else dtype
    level = diffusers.logging.get_verbosity()
    diffusers.logging.set_verbosity_error()
    diffusers.logging.disable_progress_bar()
    try:
        extra = _picture_text_processors(source)
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            source, revision=revision, dtype=getattr(torch, chosen), **extra
        )
        if not read_traits(pipeline).takes_image:
            pipeline = diffusers.AutoPipelineForInpainting.from_pipe(pipeline)
        pipeline.set_progress_bar_config(disable=True)
        if more is not None:
            _add_loras(pipeline, more.loras)
            if more.quantize:
                _quantize(pipeline)
            if more.vae_slices:
                pipeline.vae.enable_slicing()
        return placed(pipeline, more.offload if more else "none", has_gpu=cuda)
    except Exception as error:
        # Of any kind, memory included: no row is at fault, and each would load again only to fail again.
        lacks = importlib.util.find_spec("torchvision") is None and _LACKS_TORCHVISION.search(str(error))
        way_out = f" {_WAY_OUT}" if lacks else ""
        raise FatalError(f"The editing pipeline {source} cannot be loaded: {error}{way_out}") from error
    finally:
        diffusers.logging.set_verbosity(level)
        diffusers.logging.enable_progress_bar()


def _add_loras(pipeline: Any, loras: Sequence[Lora]) -> None:
    for number, lora in enumerate(loras):
        pipeline.load_lora_weights(str(lora.path), adapter_name=f"lora{number}")
    if loras:
        pipeline.set_adapters([f"lora{number}" for number in range(len(loras))], [lora.weight for lora in loras])


def _quantize(pipeline: Any) -> None:
    """All networks but the autoencoder, which is small and draws every pixel."""
    import torch

    for name, part in pipeline.components.items():
        if isinstance(part, torch.nn.Module) and name != "vae":
            in_int8(part)


def placed(pipeline: Any, offload: Offload, *, has_gpu: bool) -> Any:
    """The pipeline where it runs: on the GPU as a whole, or from main memory as far as `offload` says. Without a GPU
    there is nothing to move."""
    if not has_gpu:
        return pipeline.to("cpu")
    if offload == "networks":
        pipeline.enable_model_cpu_offload()
    elif offload == "layers":
        pipeline.enable_sequential_cpu_offload()
    else:
        pipeline.to("cuda")
    return pipeline


def check_torchvision(source: str, kinds: Iterable[str], *, is_folder: bool) -> None:
    """Raises FatalError where a pipeline whose parts are of these classes needs a torchvision that is not here."""
    needing = (*_NEEDS_TORCHVISION, *(() if is_folder else _PICTURE_TEXT_PROCESSORS))
    found = next((kind for kind in kinds if kind in needing), None)
    if found is not None and not importlib.util.find_spec("torchvision"):
        raise FatalError(f"{source} needs torchvision, for its {found}. {_WAY_OUT}")


def _picture_text_processors(source: str) -> dict[str, Any]:
    """Without torchvision, the Qwen-VL processors of a pipeline less their video part, which alone needs it; by the
    names of the parts that they are.

    Only for a local folder: on a machine without torchvision a hub id has to be downloaded first.
    """
    index = Path(source) / "model_index.json"
    if importlib.util.find_spec("torchvision") or not index.is_file():
        return {}
    from models.chat_load import load_processor  # the same processor that a Qwen-VL chat model gets

    parts = json.loads(index.read_text(encoding="utf-8"))
    kinds = {part: str(of[1]) for part, of in parts.items() if isinstance(of, list) and len(of) == 2}
    return {
        part: load_processor(str(Path(source) / part), None, _PICTURE_TEXT_PROCESSORS[kind], True)
        for part, kind in kinds.items()
        if kind in _PICTURE_TEXT_PROCESSORS
    }
