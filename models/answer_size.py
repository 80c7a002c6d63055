"""A model's picture at the size that was asked for."""

import math

import numpy as np
from PIL import Image

from storage.errors import SampleError
from storage.images import Rgb

_MOST_STRETCH = 0.04  # 1 megapixel with sides rounded to multiples of 32 is up to 3 % off


def is_like(shape: tuple[int, ...], asked: tuple[int, ...]) -> bool:
    """Whether a picture of this (height, width) has the proportions of one that was asked for."""
    return abs(math.log(shape[0] / shape[1] * asked[1] / asked[0])) <= _MOST_STRETCH


def fitted(picture: Rgb, asked: tuple[int, int]) -> Rgb:
    """`picture`, uint8 (height, width, 3), scaled to the (height, width) `asked`.

    Some models make pictures of a size of their own. Raises SampleError `editor_wrong_size` where the proportions are
    others: then something was cut off, or stretched.
    """
    if picture.shape[:2] == asked:
        return picture
    if not is_like(picture.shape, asked):
        raise SampleError("editor_wrong_size", f"Asked for {asked}, got {picture.shape[:2]}, of other proportions.")
    return np.asarray(Image.fromarray(picture).resize((asked[1], asked[0]), Image.Resampling.LANCZOS))
