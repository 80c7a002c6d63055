"""The block list: what it stops, and what is wrong with a list."""

import pytest

from storage.errors import FatalError, SampleError
from storage.gate import BlockList

SHA = "ab" * 32
PHASH = "00000000000000ff"


@pytest.fixture
def blocked(tmp_path):
    path = tmp_path / "blocked.txt"
    path.write_text(f"# a comment\n{SHA.upper()}  # exact\n\n{PHASH}\n")
    return BlockList.read(path, max_distance=2)


def test_exact_bytes_are_stopped(blocked):
    with pytest.raises(SampleError, match="blocked_hash"):
        blocked.check(SHA, "f" * 16)


# 0xff against 0xfc differ in 2 bits, against 0xf8 in 3.
@pytest.mark.parametrize(("phash", "stopped"), [("00000000000000fc", True), ("00000000000000f8", False)])
def test_look_alikes_are_stopped_up_to_the_distance(blocked, phash, stopped):
    if stopped:
        with pytest.raises(SampleError, match="blocked_hash"):
            blocked.check("cd" * 32, phash)
    else:
        blocked.check("cd" * 32, phash)


def test_a_line_that_is_no_hash_is_named(tmp_path):
    path = tmp_path / "blocked.txt"
    path.write_text(f"{SHA}\nnot a hash\n")
    with pytest.raises(FatalError, match="line 2"):
        BlockList.read(path, max_distance=6)


def test_a_missing_list_lets_nothing_in(tmp_path):
    with pytest.raises(FatalError, match="No image is let in"):
        BlockList.read(tmp_path / "gone.txt", max_distance=6)


def test_a_longer_list_has_another_hash(tmp_path):
    path = tmp_path / "blocked.txt"
    path.write_text(SHA)
    one = BlockList.read(path, max_distance=6)
    path.write_text(f"{SHA}\n{PHASH}")
    assert BlockList.read(path, max_distance=6).content_hash != one.content_hash
