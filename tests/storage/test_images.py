"""Hostile and odd files: each is a named rejection or a recorded normalisation."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image as PilImage

from storage.errors import SampleError
from storage.images import decode, decode_mask, decode_stored, encode_mask, encode_png

MAX = 1_000_000


def encoded(image: PilImage.Image, image_format: str, **options) -> bytes:
    sink = io.BytesIO()
    image.save(sink, image_format, **options)
    return sink.getvalue()


def plain(mode: str = "RGB") -> PilImage.Image:
    return PilImage.effect_noise((40, 30), 80).convert(mode)


def code_of(data: bytes, max_pixels: int = MAX) -> str:
    with pytest.raises(SampleError) as caught:
        decode(data, max_pixels=max_pixels)
    return caught.value.code


def test_an_empty_file():
    assert code_of(b"") == "empty_file"


@pytest.mark.parametrize("data", [b"not an image at all", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\x89PNG\r\n"])
def test_bytes_that_are_no_image(data):
    assert code_of(data) == "not_an_image"


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "GIF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_truncated_file(image_format, share):
    data = encoded(plain(), image_format)
    assert code_of(data[: int(len(data) * share)]) in ("truncated", "not_an_image")


def test_a_bomb_is_refused_before_it_is_decoded():
    # A PNG header that claims 60,000 x 60,000 pixels; nothing behind it.
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    assert code_of(data) == "too_many_pixels"


def test_more_pixels_than_the_cap():
    assert code_of(encoded(plain(), "PNG"), max_pixels=40 * 30 - 1) == "too_many_pixels"
    assert decode(encoded(plain(), "PNG"), max_pixels=40 * 30).rgb.shape == (30, 40, 3)


def test_exif_orientation_is_applied_and_recorded():
    image = plain()
    exif = PilImage.Exif()
    exif[0x0112] = 6  # the camera was turned: the stored rows are columns
    decoded = decode(encoded(image, "JPEG", exif=exif), max_pixels=MAX)
    assert decoded.rgb.shape == (40, 30, 3)
    assert decoded.changes == {"exif_orientation": 6}
    assert not decoded.keep_bytes


def test_alpha_is_laid_on_white():
    image = PilImage.new("RGBA", (4, 4), (0, 0, 0, 0))
    decoded = decode(encoded(image, "PNG"), max_pixels=MAX)
    assert (decoded.rgb == 255).all()
    assert decoded.changes == {"mode": "RGBA"}


@pytest.mark.parametrize(("mode", "image_format"), [("CMYK", "JPEG"), ("L", "PNG"), ("P", "GIF"), ("1", "PNG")])
def test_other_modes_become_rgb_and_are_recorded(mode, image_format):
    decoded = decode(encoded(plain().convert(mode), image_format), max_pixels=MAX)
    assert decoded.rgb.shape == (30, 40, 3)
    assert "mode" in decoded.changes


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    decoded = decode(encoded(PilImage.fromarray(ramp), "PNG"), max_pixels=MAX)
    assert decoded.changes["bit_depth"] == 16
    # 0..65535 in 256 steps is 257 per step, so the 8-bit values are 0, 1, ..., 255.
    np.testing.assert_array_equal(decoded.rgb[..., 0].ravel(), np.arange(256))


def test_the_first_frame_of_an_animation():
    frames = [PilImage.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    decoded = decode(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), max_pixels=MAX)
    assert decoded.changes["frames"] == 2
    assert tuple(decoded.rgb[0, 0]) == (255, 0, 0)


def test_floating_point_pixels_are_refused():
    assert code_of(encoded(PilImage.fromarray(np.ones((4, 4), np.float32)), "TIFF")) == "unsupported_mode"


def test_a_plain_jpeg_keeps_its_bytes():
    decoded = decode(encoded(plain(), "JPEG"), max_pixels=MAX)
    assert decoded.keep_bytes
    assert decoded.format == "JPEG"


def test_one_pixel_is_an_image():
    assert decode(encoded(PilImage.new("RGB", (1, 1)), "PNG"), max_pixels=MAX).rgb.shape == (1, 1, 3)


def test_own_encodings_are_lossless():
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_stored(encode_png(rgb)), rgb)
    mask = rng.random((5, 7)) > 0.5
    np.testing.assert_array_equal(decode_mask(encode_mask(mask)), mask)
