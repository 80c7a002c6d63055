"""Words that an edit put into the picture, read by the real reader."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from editing.lettering import new_words

MASK = np.zeros((240, 400), np.bool_)
MASK[60:180, 40:360] = True


def sign(*lines: tuple[int, str]) -> np.ndarray:
    picture = Image.new("RGB", (400, 240), (120, 140, 110))
    for top, text in lines:
        ImageDraw.Draw(picture).text((60, top), text, (250, 245, 235), ImageFont.load_default(30))
    return np.asarray(picture)


@pytest.fixture(scope="module")
def reader():
    pytest.importorskip("rapidocr")
    from models.text_reader import RapidReader

    return RapidReader()


def test_a_slogan_that_was_painted_in_is_read(reader):
    (found,) = new_words(reader, sign(), sign((100, "DEATH TO ALL")), MASK)
    assert "".join(found.split()) == "DEATHTOALL"


def test_words_that_the_original_has_are_not_new(reader):
    before = sign((70, "Fresh Bread"))
    assert new_words(reader, before, before, MASK) == ()
    assert new_words(reader, before, sign(), MASK) == ()
    assert len(new_words(reader, before, sign((70, "Fresh Bread"), (130, "burn it down")), MASK)) == 1
