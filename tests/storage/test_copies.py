"""Copies of photographs, whole and in part, and look-alikes that are none."""

import io

import numpy as np
import pytest
import skimage.data
from PIL import Image as PilImage
from PIL import ImageDraw, ImageOps

from storage.copies import found_copies, packed, same_packed, upright_of
from storage.parts import PartsIndex, is_part, look_at
from storage.turns import TURNS, hash_of, hashed_pixels, turned, upright_hashes

NAMES = ("astronaut", "coffee", "camera", "chelsea")


@pytest.fixture(scope="module")
def photos() -> list[PilImage.Image]:
    return [PilImage.fromarray(getattr(skimage.data, name)()).convert("RGB") for name in NAMES]


@pytest.fixture(scope="module")
def looks(photos):
    return [look_at(photo) for photo in photos]


def file_of(image: PilImage.Image, quality: int = 80) -> bytes:
    sink = io.BytesIO()
    image.save(sink, format="JPEG", quality=quality)
    return sink.getvalue()


def copies_of(images: list[PilImage.Image]) -> list[tuple[int, int]]:
    upright = upright_of([upright_hashes(hashed_pixels(image)) for image in images])
    return found_copies(upright, lambda place: file_of(images[place]), 6)[0]


def portrait(hair: str, skin: str, coat: str, mouth: int) -> PilImage.Image:
    """One of a set of heads and shoulders, all alike in their large shapes."""
    image = PilImage.new("RGB", (240, 320), "lightgrey")
    pen = ImageDraw.Draw(image)
    pen.ellipse((20, 220, 220, 420), fill=coat)
    pen.ellipse((65, 55, 175, 190), fill=hair)
    pen.ellipse((75, 70, 165, 210), fill=skin)
    for x in (100, 140):
        pen.ellipse((x - 8, 120, x + 8, 130), fill="white", outline="black")
    pen.arc((100, 150, 140, mouth), 0, 180, fill="darkred", width=4)
    return image


def test_a_turn_of_the_hashed_pixels_has_the_hash_of_the_turned_picture(photos):
    # Quarter turns, mirror images and negatives commute with scaling, but for rounding: a bit or two.
    for turn in TURNS:
        pixels = turned(np.asarray(photos[0]), turn)
        whole = hash_of(hashed_pixels(PilImage.fromarray(pixels)))
        assert (int(whole, 16) ^ int(hash_of(hashed_pixels(photos[0]), turn), 16)).bit_count() <= 2


def test_a_copy_is_found_in_every_turn(photos):
    for turn in TURNS:
        other = PilImage.fromarray(turned(np.asarray(photos[1]), turn)).resize((300, 260))
        assert copies_of([*photos, other]) == [(1, len(photos))], turn


def test_a_picture_that_may_stand_any_way_is_found_in_every_turn():
    even = np.zeros((64, 64, 3), dtype=np.uint8)
    even[8:56, 8:56] = 200
    even[24:40, 24:40] = (90, 40, 200)
    even[30:34, :] = even[:, 30:34] = 120
    picture = PilImage.fromarray(even).resize((256, 256), PilImage.Resampling.NEAREST)
    for turn in TURNS:
        assert copies_of([picture, PilImage.fromarray(turned(np.asarray(picture), turn))]) == [(0, 1)], turn


def test_look_alikes_have_near_hashes_and_are_not_copies():
    alike = [
        portrait("black", "tan", "navy", 178),
        portrait("saddlebrown", "wheat", "darkgreen", 190),
        portrait("maroon", "tan", "black", 170),
    ]
    hashes = [int(hash_of(hashed_pixels(image)), 16) for image in alike]
    assert all((a ^ b).bit_count() <= 6 for a in hashes for b in hashes)
    assert copies_of(alike) == []


def test_pixels_decide_as_they_stand(photos):
    small = [packed(photo) for photo in photos]
    assert same_packed(small[0], packed(photos[0].resize((200, 200))))
    assert not same_packed(small[0], packed(ImageOps.mirror(photos[0])))
    assert not any(same_packed(a, b) for a in small for b in small if a is not b)


def test_empty_pictures_are_the_same_where_their_grey_is():
    white, light, grey = (packed(PilImage.new("RGB", (50, 50), level)) for level in ("white", "#fdfdfd", "#e0e0e0"))
    assert same_packed(white, light)
    assert not same_packed(white, grey)


def captioned(photo: PilImage.Image) -> PilImage.Image:
    made, foot = photo.copy(), int(photo.height * 0.8)
    pen = ImageDraw.Draw(made)
    pen.rectangle((0, foot, photo.width, photo.height), fill="black")
    pen.text((10, foot + 8), "when you meet the same picture again", fill="white", font_size=photo.height // 12)
    return made


def cropped(photo: PilImage.Image) -> PilImage.Image:
    w, h = photo.size
    return photo.crop((w // 10, h // 4, w // 10 + int(0.6 * w), h // 4 + int(0.6 * h)))


@pytest.mark.parametrize(
    "change",
    [
        captioned,
        cropped,
        lambda photo: ImageOps.expand(photo, photo.width // 7, "white"),
        lambda photo: photo.rotate(8, PilImage.Resampling.BICUBIC),
    ],
    ids=["caption", "crop", "frame", "askew"],
)
def test_a_part_is_found_and_taken_for_no_other(photos, looks, change):
    index = PartsIndex(looks)
    for place, photo in enumerate(photos):
        with PilImage.open(io.BytesIO(file_of(change(photo)))) as copy:
            look = look_at(copy)
        assert [int(i) for i in index.like(look) if is_part(looks[int(i)], look)] == [place]


def test_a_picture_without_features_is_a_part_of_nothing(looks):
    flat = look_at(PilImage.new("RGB", (64, 64), "white"))
    assert len(PartsIndex([*looks, flat]).like(flat)) == 0
    assert not is_part(flat, flat)


@pytest.mark.parametrize("size", [(1, 1), (1, 512), (5, 2000), (31, 31)])
def test_tiny_and_thin_pictures_are_looked_at(size):
    look = look_at(PilImage.new("RGB", size, "red"))
    assert len(look.upright) >= 1
    assert look.places.shape == (len(look.bits), 2)


@pytest.mark.parametrize("colour", ["white", "black", "grey"])
def test_a_blank_picture_is_no_copy_of_one_with_detail(photos, colour):
    blank = packed(PilImage.new("RGB", photos[0].size, colour))
    for photo in photos:
        assert not same_packed(blank, packed(photo))
        assert not same_packed(packed(photo), blank)
