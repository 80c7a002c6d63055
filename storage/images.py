"""Decoding files that strangers made, and encoding what the pipeline makes.

Whatever comes in leaves as 8-bit RGB, upright, first frame, without alpha; what had to be done is recorded.
"""

import io
import warnings
from dataclasses import dataclass
from typing import Any

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage
from PIL import ImageOps, UnidentifiedImageError

from storage.errors import SampleError

Rgb = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
SUFFIXES = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
_ORIENTATION = 0x0112  # EXIF tag
_BROWSER_FORMATS = ("JPEG", "PNG", "WEBP")  # kept as they are when nothing had to be normalised


@dataclass(frozen=True)
class Decoded:
    """An image as the pipeline sees it.

    `image` is 8-bit RGB. `changes` says what was normalised, empty when nothing was.
    """

    image: PilImage.Image
    format: str
    changes: dict[str, Any]

    @property
    def rgb(self) -> Rgb:
        """The pixels, uint8 of shape (height, width, 3)."""
        return np.asarray(self.image)

    @property
    def keep_bytes(self) -> bool:
        """The source bytes can serve as they are: any viewer shows the same pixels."""
        return not self.changes and self.format in _BROWSER_FORMATS


def decode(data: bytes, *, max_pixels: int) -> Decoded:
    """Decode an image file.

    Raises SampleError with code `empty_file`, `not_an_image`, `too_many_pixels`, `truncated` or
    `unsupported_mode`.
    """
    if not data:
        raise SampleError("empty_file", "The file has no bytes.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own size warning; the cap below decides
        image = _open(data)
        width, height = image.size
        if width * height > max_pixels:
            raise SampleError("too_many_pixels", f"{width}x{height} is more than the cap of {max_pixels} pixels.")
        return _normalise(image, data)


def _open(data: bytes) -> PilImage.Image:
    try:
        return PilImage.open(io.BytesIO(data), formats=FORMATS)
    except PilImage.DecompressionBombError as error:
        raise SampleError("too_many_pixels", str(error)) from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise SampleError("not_an_image", f"No decoder of {', '.join(FORMATS)} knows it.") from error


def _normalise(image: PilImage.Image, data: bytes) -> Decoded:
    image_format = str(image.format)
    changes: dict[str, Any] = {}
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        changes["frames"] = frames
    try:
        image.load()
        orientation = image.getexif().get(_ORIENTATION, 1)
        if orientation in range(2, 9):
            changes["exif_orientation"] = orientation
            image = ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, IndexError, TypeError, EOFError) as error:
        raise SampleError("truncated", f"The file ends or breaks before the picture does: {error}") from error
    if image_format == "PNG" and data[24] == 16:
        changes["bit_depth"] = 16
    if image.mode != "RGB":
        changes["mode"] = image.mode
    return Decoded(_to_rgb(image), image_format, changes)


def _to_rgb(image: PilImage.Image) -> PilImage.Image:
    if image.mode.startswith("I;16") or image.mode == "I":
        scaled = np.clip(np.asarray(image, dtype=np.float64) / 257.0, 0, 255).round().astype(np.uint8)
        return PilImage.fromarray(scaled).convert("RGB")
    if image.mode == "F":
        raise SampleError("unsupported_mode", "Floating-point pixels have no agreed range.")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = PilImage.new("RGBA", rgba.size, (255, 255, 255, 255))
        return PilImage.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # which would copy every pixel


def perceptual_hash(rgb: Rgb | PilImage.Image) -> str:
    """ImageHash's 64-bit DCT hash of an RGB image or its uint8 (height, width, 3) pixels, as 16 hex digits."""
    return str(imagehash.phash(rgb if isinstance(rgb, PilImage.Image) else PilImage.fromarray(rgb)))


def encode_png(rgb: Rgb) -> bytes:
    """PNG bytes without any metadata; equal pixels give equal bytes for one Pillow version."""
    return _png(PilImage.fromarray(rgb))


def encode_mask(mask: Mask) -> bytes:
    """A boolean (height, width) mask as a 1-bit PNG."""
    return _png(PilImage.fromarray(mask))


def decode_mask(data: bytes) -> Mask:
    """The boolean (height, width) mask of `encode_mask`."""
    return np.asarray(PilImage.open(io.BytesIO(data)).convert("1"), dtype=np.bool_)


def open_stored(data: bytes) -> PilImage.Image:
    """A blob that the pipeline stored itself as a picture, decoded when somebody needs its pixels."""
    return PilImage.open(io.BytesIO(data))


def decode_stored(data: bytes) -> Rgb:
    """Pixels of a blob that the pipeline stored itself, uint8 (height, width, 3)."""
    return np.asarray(open_stored(data).convert("RGB"))


def _png(image: PilImage.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, format="PNG", compress_level=2)  # of photographs as small as level 6, in a quarter of the time
    return sink.getvalue()
