"""A guard sees the picture's own file, or the one stated form of it."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from guard.evaluation.pictures import blank, picture
from storage.errors import SampleError

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


@pytest.mark.parametrize(("mode", "kind"), [("RGB", "PNG"), ("RGB", "JPEG"), ("L", "PNG"), ("L", "JPEG")])
def test_its_own_file_where_every_reader_sees_the_same_pixels(mode: str, kind: str) -> None:
    data = encoded(NOISE.convert(mode), kind)
    pixels, sent = picture(data)
    assert sent == data
    assert pixels.mode == "RGB"


def test_other_forms_are_sent_as_the_pixels_that_a_model_here_sees() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    for data in (
        encoded(NOISE, "WEBP", lossless=True),
        encoded(NOISE.convert("RGBA"), "PNG"),
        encoded(NOISE.convert("P"), "PNG"),
        encoded(NOISE.convert("CMYK"), "JPEG"),
        encoded(NOISE, "JPEG", exif=turned.tobytes()),
    ):
        pixels, sent = picture(data)
        assert sent != data
        with Image.open(io.BytesIO(sent)) as shown:
            assert (shown.format, shown.mode) == ("PNG", "RGB")
            np.testing.assert_array_equal(np.asarray(shown), np.asarray(pixels))


def test_what_is_no_picture_is_refused_and_a_blank_one_shows_nothing() -> None:
    with pytest.raises(SampleError) as caught:
        picture(b"no image")
    assert caught.value.code == "image_broken"
    assert blank() == blank()
    assert len(set(Image.open(io.BytesIO(blank())).getdata())) == 1
