"""Decoding files that strangers made, and encoding what the pipeline makes.

Whatever comes in leaves as 8-bit sRGB, upright, first frame, without alpha; what had to be done is recorded.
"""

import io
import struct
import sys
import warnings
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image as PilImage
from PIL import ImageFile

from storage.colour import to_srgb
from storage.errors import SampleError, install
from storage.picture_files import brand_of, ends_early, without_end, without_long_words

Rgb = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]

FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "AVIF", "BMP", "GIF", "TIFF", "HEIF")
SUFFIXES = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jfif": "JPEG",
    ".png": "PNG",
    ".webp": "WEBP",
    ".avif": "AVIF",
    ".heic": "HEIF",
    ".heif": "HEIF",
    ".bmp": "BMP",
    ".gif": "GIF",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
_ORIENTATION = 0x0112  # EXIF tag
_UPRIGHT = {  # what undoes each orientation (EXIF 2.3, 4.6.4)
    2: PilImage.Transpose.FLIP_LEFT_RIGHT,
    3: PilImage.Transpose.ROTATE_180,
    4: PilImage.Transpose.FLIP_TOP_BOTTOM,
    5: PilImage.Transpose.TRANSPOSE,
    6: PilImage.Transpose.ROTATE_270,
    7: PilImage.Transpose.TRANSVERSE,
    8: PilImage.Transpose.ROTATE_90,
}
_MANY = {"MPO": "JPEG"}  # a phone's JPEG with a second picture behind it
_DECODERS = {"HEIF": install("heic"), "AVIF": "a Pillow that decodes AVIF"}
_BROKEN = (  # what Pillow's decoders raise for files that are not as they should be
    OSError,
    ValueError,
    SyntaxError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    EOFError,
    MemoryError,
    struct.error,
    zlib.error,
)
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

    Raises SampleError with code `empty_file`, `not_an_image`, `unsupported_format`, `too_many_pixels`, `truncated` or
    `unsupported_mode`.
    """
    if not data:
        raise SampleError("empty_file", "The file has no bytes.")
    light = without_long_words(data)
    with warnings.catch_warnings(action="ignore"):  # Pillow's own size warning; the cap decides
        image = _open(light, max_pixels)
        return _normalise(image, light, {} if light is data else {"text_left_out_bytes": len(data) - len(light)})


def _open(data: bytes, max_pixels: int) -> ImageFile.ImageFile:
    """A picture that nobody has decoded yet, which has no more pixels than these."""
    brand = brand_of(data)
    if brand == "HEIF":
        _register_heic()
    try:
        image = PilImage.open(io.BytesIO(data), formats=decodable_formats())
    except PilImage.DecompressionBombError as error:
        raise SampleError("too_many_pixels", str(error)) from error
    except _BROKEN as error:
        if brand and brand not in decodable_formats():
            raise SampleError("unsupported_format", f"It is {brand}, which needs {_DECODERS[brand]}.") from error
        raise SampleError("not_an_image", f"No decoder of {', '.join(decodable_formats())} knows it.") from error
    width, height = image.size
    if width * height > max_pixels:
        raise SampleError("too_many_pixels", f"{width}x{height} is more than the cap of {max_pixels} pixels.")
    return image


def decodable_formats() -> tuple[str, ...]:
    """The formats that this Pillow, with what is installed beside it, decodes."""
    PilImage.init()
    return tuple(name for name in FORMATS if name in PilImage.OPEN)


def _register_heic() -> None:
    """An optional decoder: its library has another licence than ours."""
    with suppress(ImportError):
        from pi_heif import register_heif_opener

        register_heif_opener()


def _normalise(image: ImageFile.ImageFile, data: bytes, changes: dict[str, Any]) -> Decoded:
    image_format = _MANY.get(str(image.format), str(image.format))
    try:
        if (frames := getattr(image, "n_frames", 1)) > 1:
            changes["frames"] = frames
        early = image_format == "JPEG" and _loads_early(image, data)
        image.load()
    except _BROKEN as error:
        raise SampleError("truncated", f"The file ends or breaks before the picture does: {error}") from error
    if early:
        raise SampleError("truncated", "The file has its end marker, but the picture's data end before the picture.")
    if image_format == "PNG" and data[24] == 16:
        changes["bit_depth"] = 16
    if image.mode != "RGB":
        changes["mode"] = image.mode
    elif image.has_transparency_data:
        changes["transparent_colour"] = list(image.info["transparency"])
    upright = _upright(image, changes)
    return Decoded(_to_rgb(upright, changes), image_format, changes)


def _loads_early(image: ImageFile.ImageFile, data: bytes) -> bool:
    """Decode a JPEG, and whether its data end before the picture; raises OSError where Pillow sees that itself."""
    shown = without_end(data, progressive=bool(image.info.get("progressive")))
    if shown is not None:
        image.fp = io.BytesIO(shown)
    image.load()
    return shown is None and ends_early(image, data)


def _upright(image: PilImage.Image, changes: dict[str, Any]) -> PilImage.Image:
    """The picture as its camera was held; broken EXIF says nothing of that."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
        turn = _UPRIGHT.get(orientation)
    except _BROKEN:
        return image
    if turn is None:
        return image
    changes["exif_orientation"] = orientation
    return image.transpose(turn)


def _to_rgb(image: PilImage.Image, changes: dict[str, Any]) -> PilImage.Image:
    """8-bit sRGB without alpha: what a viewer that manages colours shows on white."""
    if image.mode.startswith("I;16") or image.mode == "I":
        scaled = np.clip(np.asarray(image, dtype=np.float64) / 257.0, 0, 255).round().astype(np.uint8)
        return PilImage.fromarray(scaled).convert("RGB")
    if image.mode == "F":
        raise SampleError("unsupported_mode", "Floating-point pixels have no agreed range.")
    alpha = None
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        alpha, profile = rgba.getchannel("A"), image.info.get("icc_profile")
        image = rgba.convert("RGB")
        image.info["icc_profile"] = profile
    elif image.mode == "P":
        image = image.convert("RGB")
    coloured, profile_name = to_srgb(image)
    if profile_name is not None:
        changes["colour_profile"] = profile_name
    rgb = coloured if coloured.mode == "RGB" else coloured.convert("RGB")  # which would copy every pixel
    if alpha is None:
        return rgb
    white = PilImage.new("RGB", rgb.size, (255, 255, 255))
    return PilImage.composite(rgb, white, alpha)


def perceptual_hash(rgb: Rgb | PilImage.Image) -> str:
    """ImageHash's 64-bit DCT hash of an image or its uint8 pixels, of colour or of grey, as 16 hex digits."""
    return str(imagehash.phash(rgb if isinstance(rgb, PilImage.Image) else PilImage.fromarray(rgb)))


def encode_png(rgb: Rgb) -> bytes:
    """PNG bytes without any metadata; equal pixels give equal bytes for one Pillow version."""
    return _png(PilImage.fromarray(rgb))


def encode_jpeg(rgb: Rgb) -> bytes:
    """JPEG bytes of a small picture that is only compared: an eighth of its pixels, with its detail."""
    sink = io.BytesIO()
    PilImage.fromarray(rgb).save(sink, format="JPEG", quality=95)
    return sink.getvalue()


def encode_mask(mask: Mask) -> bytes:
    """A boolean (height, width) mask as a 1-bit PNG."""
    return _png(PilImage.fromarray(mask))


def decode_mask(data: bytes, *, max_pixels: int = sys.maxsize) -> Mask:
    """The boolean (height, width) mask of `encode_mask`, or of any picture; raises SampleError as `decode` does."""
    with warnings.catch_warnings(action="ignore"):
        image = _open(data, max_pixels)
        try:
            return np.asarray(image.convert("1"), dtype=np.bool_)
        except _BROKEN as error:
            raise SampleError("truncated", f"The file ends or breaks before the mask does: {error}") from error


def open_stored(data: bytes) -> PilImage.Image:
    """A blob that the pipeline stored itself as a picture, decoded when somebody needs its pixels."""
    return PilImage.open(io.BytesIO(data))


def decoded(image: PilImage.Image) -> PilImage.Image:
    """A picture's pixels as RGB. One that is still in its file is read from there anew: the caller may hold hundreds,
    and each that is decoded once keeps its pixels."""
    file = getattr(image, "fp", None)
    return (PilImage.open(io.BytesIO(file.getvalue())) if isinstance(file, io.BytesIO) else image).convert("RGB")


def decode_stored(data: bytes) -> Rgb:
    """Pixels of a blob that the pipeline stored itself, uint8 (height, width, 3)."""
    return np.asarray(open_stored(data).convert("RGB"))


def _png(image: PilImage.Image) -> bytes:
    sink = io.BytesIO()
    image.save(sink, format="PNG", compress_level=2)  # of photographs as small as level 6, in a quarter of the time
    return sink.getvalue()
