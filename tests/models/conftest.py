"""Untrained model folders: the code path of the real ones, in a second and without weights."""

from pathlib import Path

import pytest
import torch

from micro.networks import inpaint, rewriter, vlm
from micro.networks.tokenizers_word import gemma_tokenizer, vlm_tokenizer


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `vlm`, `rewriter` and `inpaint`, all random."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("untrained")
    vlm.export(vlm.build(vlm_tokenizer()).state_dict(), root / "vlm")
    rewriter.export(rewriter.build(gemma_tokenizer()), root / "rewriter")
    inpaint.export(inpaint.build_unet(), root / "inpaint")
    return root
