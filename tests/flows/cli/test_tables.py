"""Tables on narrow terminals: everything is there, and no word is torn."""

import io

import pytest
from rich.console import Console

from flows.cli.bars import stage_tables
from flows.cli.tables import TextTable, folded
from flows.engine.progress import StageSummary

CODES = ["finding_not_confirmed", "unsupported_format", "exact_duplicate", "response_incomplete"]
HEADINGS = ["image", "size", "what is wrong with it", "seen by"]
ROWS = [
    ["scene-9000.png", "400x300", "truncated: the file ends before the picture", "ann@example.org"],
    ["b", "", "", ""],
]


def shown(*parts, width):
    console = Console(width=width, file=io.StringIO(), record=True)
    for part in parts:
        console.print(part)
    return console.export_text()


@pytest.mark.parametrize("width", [60, 80, 100])
def test_reason_codes_stay_whole(width):
    stages = [
        StageSummary("caption_edited", 1000, 996, dict.fromkeys(CODES, 1), 2, 2, 8.0, prompt_tokens=123456, cost=0.25)
    ]
    text = shown(*stage_tables(stages), width=width)
    for word in (*CODES, "refused", "seconds", "123456", "0.25", "996"):
        assert word in text.split(), word
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("width", range(24, 110, 3))
def test_no_word_is_torn_and_no_line_is_too_long(width):
    text = shown(TextTable("Images", HEADINGS, ROWS, 4), width=width)
    for piece in ("scene-", "9000.png", "400x300", "truncated:", "picture", "ann@", "example."):
        assert any(piece in word for word in text.split()), piece
    assert max(map(len, text.splitlines())) <= width


def test_without_room_for_the_longest_words_a_row_is_a_sentence():
    # 9000.png, 400x300, truncated:, example. and three gaps of 2 need 8 + 7 + 10 + 8 + 6 = 39 columns
    table = TextTable("", HEADINGS, ROWS, 4)
    assert "what is wrong with it truncated:" not in " ".join(shown(table, width=44).split())
    text = " ".join(shown(table, width=30).split())
    assert "scene-9000.png: size 400x300, what is wrong with it truncated:" in text
    assert text.endswith("b:")


@pytest.mark.parametrize(
    ("text", "width", "lines"),
    [
        ("looked up", 6, "looked\nup"),
        ("a_long_code 3", 7, "a_long_\ncode 3"),
        ("0.84 (-0.13 to 0.9)", 9, "0.84\n(-0.13 to\n0.9)"),  # figures are not folded at their dots and dashes
        ("/models/vlm", 8, "/models/\nvlm"),
        ("two  spaces", 20, "two spaces"),
        ("", 5, ""),
    ],
)
def test_where_text_is_folded(text, width, lines):
    assert folded(text, width) == lines


def test_what_a_source_says_moves_no_cursor_and_draws_no_colour():
    name = "a\x1b[2J\x1b]0;title\x07\u202egnp.exe\n"
    text = shown(TextTable("Images", ("key",), [(name,)]), width=80)
    assert not set("\x1b\x07\u202e") & set(text)
