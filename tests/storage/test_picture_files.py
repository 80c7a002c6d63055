"""Pictures as phones, cameras and broken downloads leave them: refused with a reason, or shown and stored alike."""

import hashlib
import io
import json
import struct
import zlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage

from storage.errors import SampleError
from storage.images import decode, decode_stored
from storage.ingest import IngestSettings
from storage.picture_files import without_end, without_long_words
from storage.sources import ColumnSettings, open_source
from storage.stages import INGEST, Ingesting
from storage.workspace import Workspace

PICTURES = Path(__file__).parent / "pictures"
LIGHT = len(without_long_words((PICTURES / "long_text.png").read_bytes()))
MAX = 1_000_000
NOISE = PilImage.effect_noise((96, 80), 90).convert("RGB")


def read(data: bytes):
    return decode(data, max_pixels=MAX)


def jpeg(image=NOISE, **options) -> bytes:
    sink = io.BytesIO()
    image.save(sink, "JPEG", **options)
    return sink.getvalue()


def code_of(data: bytes) -> str:
    with pytest.raises(SampleError) as caught:
        read(data)
    return caught.value.code


def test_every_picture_is_refused_or_stored_as_it_is_shown(tmp_path):
    files = open_source(str(PICTURES), ColumnSettings()).list()
    workspace = Workspace.open(tmp_path / "ws")
    result = INGEST.using(Ingesting(IngestSettings(), str(PICTURES))).make(workspace).run_shard(files)
    assert {r.key: r.code for r in result.rejected} == {
        "half_with_eoi.jpg": "truncated",
        "tiff_missing_dimensions.tif": "truncated",
    }
    kept = {image.source_key: image for image in result.ok}
    assert {name: json.loads(image.meta_json) for name, image in kept.items()} == {
        "exif_struct_error.jpg": {"exif_orientation": 6},
        "exif_struct_error.webp": {"exif_orientation": 6},
        "long_text.png": {"text_left_out_bytes": (PICTURES / "long_text.png").stat().st_size - LIGHT},
        "p3.jpg": {"colour_profile": "P3-like"},
        "phone_mpo.jpg": {"frames": 2},
        "trns_rgb.png": {"transparent_colour": [200, 30, 40]},
    }
    for name, image in kept.items():
        data = (PICTURES / name).read_bytes()
        stored = decode_stored(workspace.blobs.get(image.blob))
        np.testing.assert_array_equal(stored, read(data).rgb)
        assert image.blob != hashlib.sha256(data).hexdigest()  # something was changed in each
        assert (image.width, image.height) == (stored.shape[1], stored.shape[0])


def test_a_phones_jpeg_shows_its_first_picture():
    decoded = read((PICTURES / "phone_mpo.jpg").read_bytes())
    assert decoded.format == "JPEG"
    with PilImage.open(PICTURES / "phone_mpo.jpg") as image:
        np.testing.assert_array_equal(decoded.rgb, np.asarray(image.convert("RGB")))


def linear(value):
    """sRGB's and Display P3's curve (IEC 61966-2-1)."""
    value = np.asarray(value) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def test_colours_of_another_profile_become_those_of_srgb():
    with PilImage.open(PICTURES / "p3.jpg") as image:
        profile = image.info["icc_profile"]
    patch = (180, 100, 90)
    sink = io.BytesIO()
    PilImage.new("RGB", (4, 4), patch).save(sink, "PNG", icc_profile=profile)
    # Display P3 to sRGB in linear light (CSS Color 4, from both sets of primaries with D65).
    matrix = np.array([[1.2249, -0.2249, 0], [-0.0420, 1.0420, 0], [-0.0196, -0.0786, 1.0983]])
    light = matrix @ linear(patch)
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    decoded = read(sink.getvalue())
    assert np.abs(decoded.rgb[0, 0] - expected).max() <= 3
    assert decoded.rgb[0, 0, 0] > patch[0] + 5  # redder than a viewer without colours would show


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_profile_that_changes_nothing_or_is_broken_keeps_the_bytes(mode):
    from PIL import ImageCms

    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"no profile", srgb[: len(srgb) // 2]):
        decoded = read(jpeg(NOISE.convert(mode), icc_profile=profile))
        assert "colour_profile" not in decoded.changes
        assert decoded.keep_bytes == (mode == "RGB")


def test_a_transparent_colour_is_laid_on_white_once():
    image = PilImage.new("RGB", (6, 4), (10, 20, 30))
    image.putpixel((0, 0), (200, 30, 40))
    sink = io.BytesIO()
    image.save(sink, "PNG", transparency=(10, 20, 30))
    decoded = read(sink.getvalue())
    assert not decoded.keep_bytes
    assert decoded.rgb.reshape(-1, 3).tolist() == [[200, 30, 40], *[[255, 255, 255]] * 23]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize(
    "words",
    [
        chunk(b"zTXt", b"prompt\0\0" + zlib.compress(b"a" * 5_000_000)),
        chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b"a" * 5_000_000)),
        chunk(b"zTXt", b"XML:com.adobe.xmp\0\0" + zlib.compress(b"a" * 5_000_000)),
        chunk(b"iTXt", b"prompt\0\0\0\0\0" + b"a" * 3_000_000) * 30,
    ],
    ids=["zTXt", "iTXt", "xmp", "many"],
)
def test_long_words_in_a_png_refuse_nothing(words, place):
    sink = io.BytesIO()
    NOISE.save(sink, "PNG")
    data = sink.getvalue()
    at = 33 if place == "first" else len(data) - 12  # behind IHDR, or before IEND
    decoded = read(data[:at] + words + data[at:])
    np.testing.assert_array_equal(decoded.rgb, np.asarray(NOISE))
    assert not decoded.keep_bytes  # nobody else could open them


def test_short_words_that_say_how_a_png_is_turned_are_heard():
    exif = PilImage.Exif()
    exif[0x0112] = 6
    lines = f"\nexif\n{len(exif.tobytes()):8}\n{exif.tobytes().hex()}\n".encode()
    sink = io.BytesIO()
    NOISE.save(sink, "PNG")
    data = sink.getvalue()
    words = chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(lines))
    assert read(data[:33] + words + data[33:]).changes == {"exif_orientation": 6}


@settings(max_examples=40, deadline=None)
@given(
    st.floats(0.2, 0.9),
    st.sampled_from([{}, {"progressive": True}, {"subsampling": 0}, {"restart_marker_rows": 1}]),
    st.sampled_from(["RGB", "L", "CMYK"]),
)
def test_a_jpeg_that_was_cut_and_closed_is_truncated(share, options, mode):
    # 96 x 80 pixels are at least 30 units of 16 x 16: a cut after nine tenths leaves out one or more as a whole.
    data = jpeg(NOISE.convert(mode), **options)
    start = data.index(b"\xff\xda") + 14
    cut = start + int((len(data) - start) * share)
    if data[cut - 1] == 0xFF:
        cut += 1  # not between a marker's two bytes
    assert code_of(data[:cut] + b"\xff\xd9") == "truncated"


def is_read(data: bytes) -> bool:
    try:
        return read(data).image.size == NOISE.size
    except SampleError:
        return False


def test_nearly_every_jpeg_that_was_cut_within_its_last_block_and_closed_is_truncated():
    # The last block of noisy pixels takes more than 60 bytes. A few cuts end where its last bits might end too.
    cuts = []
    for mode in ("RGB", "L", "CMYK"):
        for options in ({}, {"subsampling": 0}, {"optimize": True}, {"restart_marker_rows": 1}):
            data = jpeg(NOISE.convert(mode), **options)
            assert is_read(data)
            ends = [end for end in range(len(data) - 60, len(data) - 2) if data[end - 1] != 0xFF]
            cuts += [is_read(data[:end] + b"\xff\xd9") for end in ends]
    assert sum(cuts) <= 0.1 * len(cuts)


def test_a_jpeg_shows_the_same_pixels_without_its_end():
    for options in ({}, {"subsampling": 0}, {"quality": 10}, {"restart_marker_blocks": 3}, {"optimize": True}):
        data = jpeg(**options)
        assert without_end(data, progressive=False) is not None
        np.testing.assert_array_equal(read(data).rgb, np.asarray(PilImage.open(io.BytesIO(data))))
    trailing = jpeg() + b"\0" * 100 + jpeg(NOISE.transpose(PilImage.Transpose.ROTATE_90))
    np.testing.assert_array_equal(read(trailing).rgb, read(jpeg()).rgb)  # what follows the end is another's


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 70),
    st.sampled_from(["grey", "noise", "half"]),
    st.sampled_from([{}, {"progressive": True}, {"subsampling": 0}, {"quality": 20}]),
    st.sampled_from(["RGB", "L"]),
)
def test_a_whole_jpeg_is_never_taken_for_a_cut_one(width, height, content, options, mode):
    # Grey of 128 is what libjpeg puts where data are missing: a picture of it must not be refused.
    image = PilImage.effect_noise((width, height), 90).convert("RGB")
    if content != "noise":
        image.paste((128, 128, 128), (0, 0 if content == "grey" else height // 2, width, height))
    assert read(jpeg(image.convert(mode), **options)).rgb.shape == (height, width, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone_as_pillow_does(orientation):
    from PIL import ImageOps

    exif = PilImage.Exif()
    exif[0x0112] = orientation
    sink = io.BytesIO()
    NOISE.save(sink, "PNG", exif=exif)
    with PilImage.open(sink) as image:
        np.testing.assert_array_equal(read(sink.getvalue()).rgb, np.asarray(ImageOps.exif_transpose(image)))


def test_avif_is_read_where_pillow_reads_it():
    from PIL import features

    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF decoder")
    sink = io.BytesIO()
    NOISE.save(sink, "AVIF", quality=100)
    decoded = read(sink.getvalue())
    assert (decoded.format, decoded.keep_bytes) == ("AVIF", False)


# The first box of a HEIC file as phones write it; nothing behind it.
HEIC = struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic"


def test_heic_without_its_decoder_names_the_extra():
    if find_spec("pi_heif"):
        pytest.skip("pi-heif is installed")
    with pytest.raises(SampleError, match=r"unsupported_format: .*\.\[heic\]"):
        read(HEIC)


def test_heic_with_its_decoder_is_read_and_a_broken_one_refused():
    pytest.importorskip("pi_heif")
    assert code_of(HEIC) in ("not_an_image", "truncated")
