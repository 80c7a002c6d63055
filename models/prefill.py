"""The smooth fill that an inpainting pipeline starts from when it runs few steps."""

import numpy as np
from PIL import Image

from storage.images import Mask, Rgb

_PREFILL_MAX_PX = 128  # the fill is smooth: solving it larger costs minutes and shows nothing more


def biharmonic_fill(image: Rgb, mask: Mask) -> Rgb:
    """Fills the mask smoothly from its border (Damelin and Hoang, 2018, as in scikit-image).

    Solved at 128 px at most; a larger image gets the enlarged fill inside its mask.
    """
    from skimage.restoration import inpaint_biharmonic  # brings half of scipy, a second of every command's start

    if not mask.any() or mask.all():
        return image
    longest = max(image.shape[:2])
    if longest <= _PREFILL_MAX_PX:
        filled = inpaint_biharmonic(image.astype(np.float64) / 255, mask, channel_axis=-1)
        return np.asarray(np.clip(np.rint(filled * 255), 0, 255), dtype=np.uint8)
    height, width = image.shape[:2]
    size = round(width * _PREFILL_MAX_PX / longest), round(height * _PREFILL_MAX_PX / longest)
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX))
    cover = np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)) > 0
    fill = Image.fromarray(biharmonic_fill(small, cover)).resize((width, height), Image.Resampling.BICUBIC)
    return np.where(mask[..., None], np.asarray(fill), image)
