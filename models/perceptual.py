"""How far apart two pictures look to a network: LPIPS (Zhang et al. 2018)."""

import threading
from typing import Any, Protocol

import numpy as np

from storage.errors import FatalError, install
from storage.images import Rgb

_LEAST_PX = 64  # AlexNet's layers shrink a smaller picture to nothing
_MOST_PX = 512  # longer side; the network was trained on patches of 64 px, and memory must not follow the picture


class PerceptualDistance(Protocol):
    """0 for equal pictures, about 1 for unrelated ones."""

    def distance(self, first: Rgb, second: Rgb) -> float: ...


class Lpips:
    """LPIPS with AlexNet, from the `lpips` package; loaded by the first call.

    Raises FatalError when the package is not installed or its weights cannot be had.
    """

    def __init__(self) -> None:
        self._network: Any = None
        self._lock = threading.Lock()

    def distance(self, first: Rgb, second: Rgb) -> float:
        """Distance of two pictures of one shape, uint8 (height, width, 3)."""
        import torch

        with self._lock, torch.inference_mode():
            if self._network is None:
                self._network = _load()
            return float(self._network(_tensor(first), _tensor(second)).item())


def _tensor(rgb: Rgb) -> Any:
    """float32 (1, 3, height, width) in -1..1, scaled to between 64 and 512 pixels."""
    import torch
    from PIL import Image

    height, width = rgb.shape[:2]
    scale = min(1.0, _MOST_PX / max(height, width))
    size = max(_LEAST_PX, round(width * scale)), max(_LEAST_PX, round(height * scale))
    pixels = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.LANCZOS), dtype=np.float32)
    return torch.from_numpy(pixels / 127.5 - 1).permute(2, 0, 1)[None]


def _load() -> Any:
    try:
        import lpips
    except ImportError as error:
        raise FatalError(
            f"editing.certify.max_outside_lpips needs an extra ({error}). Run {install('lpips')}."
        ) from error
    try:
        return lpips.LPIPS(net="alex", verbose=False).eval()
    except Exception as error:
        raise FatalError(f"The weights of LPIPS cannot be loaded: {error}") from error
