"""Which lines of text count as new."""

import numpy as np
import pytest

from editing.lettering import new_words

MASK = np.zeros((240, 400), np.bool_)
MASK[60:180, 40:360] = True
PICTURE = np.zeros((240, 400, 3), np.uint8)


class Says:
    def __init__(self, *answers):
        self._answers = list(answers)

    def lines(self, rgb):
        return self._answers.pop(0)


@pytest.mark.parametrize(
    ("before", "after", "new"),
    [
        (["Fresh Bread"], ["FreshBreod", "i,", "?!"], ()),  # a letter read otherwise, and texture
        (["Fresh Bread"], ["Fresh"], ()),
        (["FRESH BREAD"], ["FRESH DEATH"], ("FRESH DEATH",)),
        (["I LOVE CATS"], ["I HATE CATS"], ("I HATE CATS",)),
        ([], ["kill them", "ab"], ("kill them",)),
    ],
)
def test_another_word_is_new_and_another_letter_is_not(before, after, new):
    assert new_words(Says(before, after), PICTURE, PICTURE, MASK) == new
