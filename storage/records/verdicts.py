"""The words that records use for what was decided."""

from typing import Literal

Verdict = Literal["safe", "unsafe", "unsure"]
EditKind = Literal["remove", "sham", "roundtrip", "insert"]
PAIRED: tuple[EditKind, ...] = ("remove", "insert")
"""Edits that make the other side of a pair; the others are controls, which show what their original shows."""
LabelStatus = Literal["agreed", "adjudicated", "conflict", "missing"]
DerivedVerdict = Literal["safe", "unsafe", "undetermined"]
Decision = Literal["accepted", "rejected"]
