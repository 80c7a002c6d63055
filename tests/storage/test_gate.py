"""The block list: what it stops, and what is wrong with a list."""

import hashlib

import numpy as np
import pytest
from PIL import Image as PilImage

from storage.errors import FatalError, SampleError
from storage.gate import BlockList
from storage.turns import TURNS, hash_of, hashed_pixels
from tests.drawing import draw

DATA = b"the bytes of a file"
PICTURE = PilImage.fromarray(draw(1))
PHASH = "00000000000000ff"


def blocked(tmp_path, text, max_distance=2):
    path = tmp_path / "blocked.txt"
    path.write_text(text)
    return BlockList.read(path, max_distance=max_distance)


@pytest.mark.parametrize("kind", ["md5", "sha1", "sha256"])
@pytest.mark.parametrize(
    "line", ["{kind}:{digits}", "{kind}: {DIGITS}  # known", "{kind} {digits}", "HASH_{kind} {digits}"]
)
def test_exact_bytes_are_stopped(tmp_path, kind, line):
    digits = hashlib.new(kind, DATA).hexdigest()
    stopped = blocked(tmp_path, "# a comment\n\n" + line.format(kind=kind, digits=digits, DIGITS=digits.upper()) + "\n")
    with pytest.raises(SampleError, match="blocked_hash"):
        stopped.check(DATA, PICTURE)
    stopped.check(DATA + b".", PICTURE)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize(("flipped", "stopped"), [(0b11, True), (0b111, False)])
def test_look_alikes_are_stopped_up_to_the_distance_however_they_are_turned(tmp_path, turn, flipped, stopped):
    listed = int(hash_of(hashed_pixels(PICTURE), turn), 16) ^ flipped
    near = blocked(tmp_path, f"phash:{listed:016x}")
    if stopped:
        with pytest.raises(SampleError, match="blocked_hash"):
            near.check(DATA, PICTURE)
    else:
        near.check(DATA, PICTURE)


def test_a_table_of_the_threat_exchange_is_read_without_what_is_known_to_be_harmless(tmp_path):
    md5, other = (hashlib.md5(data).hexdigest() for data in (DATA, b"other"))
    table = blocked(
        tmp_path, f"signal_type,signal_str,category\nmd5,{md5},POSITIVE_CLASS\nmd5,{other},NEGATIVE_CLASS\n"
    )
    assert table.hashes == {"md5": {md5}}


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("ab" * 32, "line 2: 64 hex digits do not say what hash they are. Write sha256: or pdq: before"),
        ("ab" * 8, "line 2: 16 hex digits do not say .* Write phash:"),
        ("ab" * 16, "Write md5:"),
        ("not a hash", "line 2: expected md5: and 32"),
        ("sha256:" + "ab" * 20, "line 2: expected"),
        ("vpdq:" + "ab" * 32, "line 2: expected"),
        ("sha256:", "line 2: expected"),
    ],
)
def test_a_line_that_may_be_two_things_or_is_none_is_named(tmp_path, line, sentence):
    with pytest.raises(FatalError, match=sentence):
        blocked(tmp_path, f"phash:{PHASH}\n{line}\n")


def test_a_missing_list_lets_nothing_in(tmp_path):
    with pytest.raises(FatalError, match="No image is let in"):
        BlockList.read(tmp_path / "gone.txt", max_distance=6)


def test_a_longer_list_has_another_hash(tmp_path):
    one = blocked(tmp_path, f"sha256:{'ab' * 32}")
    assert blocked(tmp_path, f"sha256:{'ab' * 32}\nphash:{PHASH}").content_hash != one.content_hash


def test_a_list_that_needs_what_is_not_installed_stops(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pdqhash", None)
    with pytest.raises(FatalError, match=r"\.\[pdq\]"):
        blocked(tmp_path, f"pdq:{'ab' * 32}")


def test_a_picture_and_its_eight_turns_are_stopped_by_pdq_and_a_flat_one_is_not(tmp_path):
    pdqhash = pytest.importorskip("pdqhash")
    rng = np.random.default_rng(0)
    rgb = np.kron(rng.integers(0, 256, (16, 16, 3)), np.ones((16, 16, 1))).astype(np.uint8)
    bits, quality = pdqhash.compute(rgb)
    assert quality >= 50
    digits = np.packbits(bits.astype(np.uint8)).tobytes().hex()
    stopped = blocked(tmp_path, f"pdq:{digits}\npdq:{'0' * 64}")
    for turn in range(4):
        for turned in (np.rot90(rgb, turn), np.fliplr(np.rot90(rgb, turn))):
            with pytest.raises(SampleError, match="blocked_hash"):
                stopped.check(DATA, PilImage.fromarray(turned))
    stopped.check(DATA, PilImage.fromarray(rgb[:128]))  # half of it is another picture
    # A flat picture hashes to zero, as many lists do by mistake, with a quality of 0.
    stopped.check(DATA, PilImage.new("RGB", (64, 64), (9, 9, 9)))
