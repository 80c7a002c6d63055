"""Classical inpainting with OpenCV: a baseline editor that needs no weights."""

from collections.abc import Sequence

import cv2
import numpy as np

from models.image_edit import ImageEdit
from models.settings import CLASSICAL
from storage.errors import SampleError
from storage.images import Rgb
from storage.records.ids import content_id

METHODS = dict(zip(CLASSICAL, (cv2.INPAINT_TELEA, cv2.INPAINT_NS), strict=True))
_RADIUS_PX = 5.0  # how far around a pixel its surroundings count
_SIZE_PX = 512  # of the window that is shown to it; a larger region is scaled down


class ClassicalEditor:
    """An `ImageEditor` that continues what surrounds the hole. Telea 2004 (fast marching), or Bertalmio 2001
    (Navier-Stokes). It reads no prompt and no seed, so equal edits give equal pixels.

    Without a masked pixel the picture comes back as it is: there is no codec.
    """

    def __init__(self, method: str) -> None:
        self._method = method

    @property
    def fingerprint(self) -> str:
        return content_id("classical", self._method, _RADIUS_PX, _SIZE_PX)

    @property
    def size_px(self) -> int:
        return _SIZE_PX

    @property
    def own_size(self) -> bool:
        return False

    def edit(self, edits: Sequence[ImageEdit]) -> list[Rgb | SampleError]:
        """Repaints each picture. See `ImageEditor`."""
        return [self._filled(edit) for edit in edits]

    def _filled(self, edit: ImageEdit) -> Rgb | SampleError:
        if not edit.mask.any():
            return SampleError("editor_no_codec", "Classical inpainting has no codec to pass a picture through.")
        mask = edit.mask.astype(np.uint8) * 255
        filled: Rgb = cv2.inpaint(np.ascontiguousarray(edit.image), mask, _RADIUS_PX, METHODS[self._method]).astype(
            np.uint8
        )
        return filled
