"""What damage and malice make of a good file: of its bytes, or of the values inside it."""

import json
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from random import Random
from typing import Any

_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_LONG = 100_000  # characters, or brackets inside each other
_HOSTILE: tuple[Any, ...] = (
    None, True, -1, 0, 0.5, 2**31, 2**63, -(2**63), 10**400, 1e308, -1e308, float("nan"), float("inf"), [], {}, "",
    " ", "\0", "a\0b", "\ud800", "\udfff.png", "\u202egnp.a", "../../etc/passwd", "/dev/zero", "/proc/self/mem", ".",
    "s3:", "a" * _LONG, "9" * 5000, "NaN", "1e999", [[]], [{}], {"": None}, [None] * 5, [0] * 1000, "[" * 50,
)  # fmt: skip


def mutated(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """The file after one to four of the ways in which bytes are damaged, or text is made hostile."""
    for _ in range(random.choice((1, 1, 1, 2, 3, 4))):
        data = random.choice(_OF_BYTES)(data, others, random)
    return data


def _place(data: bytes, random: Random) -> int:
    """Anywhere, and as often near the beginning or the end, where headers and footers are."""
    near = random.choice((len(data), min(len(data), 64), min(len(data), 512)))
    at = random.randrange(near + 1)
    return at if random.random() < 0.6 else len(data) - at


def _flip(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    flipped = bytearray(data)
    for _i in range(random.choice((1, 1, 2, 8, 64)) if data else 0):
        flipped[min(_place(data, random), len(data) - 1)] ^= 1 << random.randrange(8)
    return bytes(flipped)


def _cut(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    return data[: _place(data, random)]


def _drop(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    at = _place(data, random)
    return data[:at] + data[at + random.choice((1, 2, 4, 100)) :]


def _splice(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    other = random.choice(others)
    return data[: _place(data, random)] + other[_place(other, random) :]


def _repeat(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    at = _place(data, random)
    piece = data[at : at + random.choice((1, 4, 64, 1024))]
    return data[:at] + piece * random.choice((2, 2, 10, 1000)) + data[at:]


def _number(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    """A binary number at its edge, in either order of its bytes."""
    at, width, edge = _place(data, random), random.choice((1, 2, 4, 8)), random.choice(_EDGES)
    written = (edge % 256**width).to_bytes(width, random.choice(("little", "big")))
    return data[:at] + written + data[at + width :]


def _insert(data: bytes, _: Sequence[bytes], random: Random) -> bytes:
    at = _place(data, random)
    odd = random.choice((b"\0", b"\0" * 1000, b"\xff", b"\xed\xa0\x80", b"\\ud800", b'"', b"\n", b"\xef\xbb\xbf"))
    deep = random.choice((b"[", b"{", b'{"a":', b"(", b"<a>")) * _LONG
    return data[:at] + random.choice((odd, odd, odd, deep, b"9" * 5000)) + data[at:]


_OF_BYTES: Sequence[Callable[[bytes, Sequence[bytes], Random], bytes]] = (
    _flip, _cut, _drop, _splice, _repeat, _number, _insert,
)  # fmt: skip


def mutated_json(data: bytes, others: Sequence[bytes], random: Random) -> bytes:
    """The file after one to three of its values have become another, gone, or doubled; lines are files of their own."""
    lines = data.decode("utf-8-sig").splitlines()
    at = random.randrange(len(lines)) if len(lines) > 1 else 0
    value = [json.loads(lines[at] if len(lines) > 1 else data.decode("utf-8-sig"))]
    for _ in range(random.choice((1, 1, 2, 3))):
        _change(value, others, random)
    lines[at : at + 1 if len(lines) > 1 else len(lines)] = [json.dumps(value[0])]
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _change(root: list[Any], others: Sequence[bytes], random: Random) -> None:
    holder, key = random.choice(list(_places(root)))
    value, way = holder[key], random.randrange(6)
    if way == 0 and holder is not root:
        del holder[key]
    elif way == 1 and isinstance(value, list):
        holder[key] = value * random.choice((2, 100))
    elif way == 2:
        holder[key] = deepcopy(random.choice(list(_places(root)))[0])
    elif way == 3 and isinstance(value, int | float) and not isinstance(value, bool):
        holder[key] = random.choice((-value, value * 10**9, str(value), [value]))
    else:
        holder[key] = deepcopy(random.choice(_HOSTILE))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each list or mapping inside a value with each of its keys."""
    keys = range(len(value)) if isinstance(value, list) else list(value) if isinstance(value, dict) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])
