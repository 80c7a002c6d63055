"""The gate: an image whose hash is on the block list goes no further, before it is stored or any model sees it.

A block list is a text file, one hash a line: 64 hex digits block those exact bytes (SHA-256), 16 hex digits
block everything near that perceptual hash (ImageHash's 64-bit pHash). `#` starts a comment.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from storage.errors import FatalError, SampleError
from storage.records.ids import content_id

_LINE = re.compile(r"[0-9a-f]{64}|[0-9a-f]{16}")


@dataclass(frozen=True)
class BlockList:
    """Exact and perceptual hashes. An empty list blocks nothing."""

    exact: frozenset[str] = frozenset()
    perceptual: tuple[int, ...] = ()
    max_distance: int = 6  # bits of 64; above about 10 unrelated images begin to match

    @classmethod
    def read(cls, path: Path | None, *, max_distance: int) -> "BlockList":
        """Parse a block list; raises FatalError naming the line that is neither kind of hash."""
        if path is None:
            return cls()
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise FatalError(f"Cannot read the block list {path}: {why}. No image is let in without it.") from error
        exact: set[str] = set()
        perceptual: set[str] = set()
        for number, line in enumerate(lines, start=1):
            entry = line.split("#")[0].strip().lower()
            if not entry:
                continue
            if not _LINE.fullmatch(entry):
                raise FatalError(f"{path}, line {number}: expected 64 (SHA-256) or 16 (pHash) hex digits.")
            (exact if len(entry) == 64 else perceptual).add(entry)
        return cls(frozenset(exact), tuple(sorted(int(p, 16) for p in perceptual)), max_distance)

    @property
    def content_hash(self) -> str:
        """What a stage's fingerprint holds, so that a longer list checks every image again."""
        return content_id(sorted(self.exact), self.perceptual, self.max_distance)

    def check(self, sha256: str, phash: str) -> None:
        """Raise SampleError `blocked_hash` when either hash is on the list."""
        if sha256 in self.exact:
            raise SampleError("blocked_hash", "Its bytes are on the block list.")
        value = int(phash, 16)
        if any((value ^ blocked).bit_count() <= self.max_distance for blocked in self.perceptual):
            raise SampleError("blocked_hash", "It looks like an image on the block list.")
