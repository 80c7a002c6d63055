"""What a caption says outright, and what is taken out of one."""

import pytest

from micro.world import VOCABULARY
from recaption.said import doubted, without_denials
from recaption.spans import sentences, words


@pytest.mark.parametrize(
    "kept",
    [
        "A 2.5 metre wall costs $3.50.",
        "It is 5 p.m. and Mr. Smith reads.",
        "A road; a bridge.",
        "A wall without a full stop",
        "Two  blanks\nand a line. More.",
    ],
)
def test_the_rest_of_a_caption_keeps_every_byte(kept):
    assert without_denials(f"{kept.rstrip('.')}. No knives are visible.", ["blade"], VOCABULARY) == (
        f"{kept.rstrip('.')}."
    )
    assert without_denials(kept, ["blade"], VOCABULARY) == kept


def test_sentences_cover_all_words():
    text = "A man, 3.5 m tall. Is it Mr. Smith? Yes; it is... Fine"
    found = sentences(text)
    assert [n for start, end in found for n in range(start, end)] == list(range(len(words(text))))
    assert sentences("") == []


def test_nothing_doubts_nothing():
    assert doubted("", VOCABULARY) == frozenset()
    assert doubted("...", VOCABULARY) == frozenset()
