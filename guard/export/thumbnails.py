"""Small pictures for the report: JPEG data URIs, and mask outlines as SVG paths."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow
from skimage.measure import approximate_polygon, find_contours

from guard.export.png import decode

SIDE_PX = 400
SMALL_SIDE_PX = 96
_TOLERANCE_PX = 0.6  # how far a simplified outline may lie off the exact one


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A data URI and its size in pixels."""

    uri: str
    width: int
    height: int


def thumbnail(data: bytes, blob: str, side_px: int = SIDE_PX) -> Thumbnail:
    """An image within a square of `side_px`, never enlarged; raises FatalError when the blob does not decode."""
    return thumbnail_of(decode(data, blob), side_px)


def thumbnail_of(image: Pillow.Image, side_px: int = SIDE_PX) -> Thumbnail:
    """The same of an RGB picture, which is left as it is."""
    image = image.copy()
    image.thumbnail((side_px, side_px), Pillow.Resampling.LANCZOS)
    sink = io.BytesIO()
    image.save(sink, format="JPEG", quality=82)
    uri = "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode()
    return Thumbnail(uri, image.width, image.height)


def outline(mask: bytes, blob: str, width: int, height: int) -> str:
    """The border of a mask's set pixels as an SVG path in a box of `width` x `height`; empty for an empty mask."""
    image = decode(mask, blob).convert("L").resize((width, height), Pillow.Resampling.BOX)
    padded = np.pad(np.asarray(image, dtype=np.float64) / 255, 1)  # so that a mask at the edge closes too
    paths = []
    for contour in find_contours(padded, 0.5):
        points = approximate_polygon(contour, _TOLERANCE_PX) - 0.5  # pixel centres to corners, less the padding
        paths.append("M" + "L".join(f"{x:.1f} {y:.1f}" for y, x in points[:-1]) + "Z")
    return "".join(paths)
