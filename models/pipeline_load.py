"""Loading a diffusers pipeline that edits, from a folder or a hub id."""

import importlib.util
import json
from pathlib import Path
from typing import Any

from models.pipeline_traits import read_traits
from models.settings import Dtype
from storage.errors import FatalError

_PICTURE_TEXT_PROCESSORS = {
    "Qwen2VLProcessor": "qwen2_5_vl",
    "Qwen2_5_VLProcessor": "qwen2_5_vl",
    "Qwen3VLProcessor": "qwen3_vl",
}
"""Processors with a video part, which needs torchvision, and the type of model whose processor does without it."""


def load_pipeline(source: str, revision: str | None = None, dtype: Dtype = "auto") -> Any:
    """A pipeline that edits, on the GPU if there is one ("auto": in bfloat16), else on the CPU (float32).

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
        return pipeline.to("cuda" if cuda else "cpu")
    except Exception as error:
        # Of any kind, memory included: no row is at fault, and each would load again only to fail again.
        raise FatalError(f"The editing pipeline {source} cannot be loaded: {error}") from error
    finally:
        diffusers.logging.set_verbosity(level)
        diffusers.logging.enable_progress_bar()


def _picture_text_processors(source: str) -> dict[str, Any]:
    """Without torchvision, the Qwen-VL processors of a pipeline less their video part, which alone needs it; by the
    names of the parts that they are.

    Only for a local folder: on a machine without torchvision a hub id has to be downloaded first.
    """
    index = Path(source) / "model_index.json"
    if importlib.util.find_spec("torchvision") or not index.is_file():
        return {}
    from models.chat import load_processor  # the same processor that a Qwen-VL chat model gets

    parts = json.loads(index.read_text(encoding="utf-8"))
    kinds = {part: str(of[1]) for part, of in parts.items() if isinstance(of, list) and len(of) == 2}
    return {
        part: load_processor(str(Path(source) / part), None, _PICTURE_TEXT_PROCESSORS[kind], True)
        for part, kind in kinds.items()
        if kind in _PICTURE_TEXT_PROCESSORS
    }
