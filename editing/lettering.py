"""Words that an edit put into the picture."""

from difflib import SequenceMatcher

import numpy as np

from editing.masks import Window, around
from models.text_reader import TextReader
from storage.images import Mask, Rgb

_FEWEST = 3  # letters and digits; shorter finds are mostly texture
_SAME = 0.85  # share of two lines that agree; readers err by a letter or a space, and another word is more
_MARGIN = 0.1  # of the mask's longer side, so that a line that begins outside is read whole


def new_words(reader: TextReader, original: Rgb, edited: Rgb, mask: Mask) -> tuple[str, ...]:
    """The lines of text in and around the bool `mask` (height, width) that `edited` has and `original` does not, both
    uint8 (height, width, 3)."""
    window = _window(mask)
    before = [_letters(line) for line in reader.lines(np.ascontiguousarray(original[window]))]
    found = [line for line in reader.lines(np.ascontiguousarray(edited[window])) if len(_letters(line)) >= _FEWEST]
    return tuple(sorted(line for line in found if not any(_alike(_letters(line), known) for known in before)))


def _window(mask: Mask) -> Window:
    rows, columns = around(mask, 0)
    return around(mask, round(_MARGIN * max(rows.stop - rows.start, columns.stop - columns.start)))


def _letters(line: str) -> str:
    return "".join(filter(str.isalnum, line.casefold()))


def _alike(line: str, known: str) -> bool:
    return line in known or SequenceMatcher(None, line, known, autojunk=False).ratio() >= _SAME
