"""The words that records use for what was decided."""

from typing import Literal

Verdict = Literal["safe", "unsafe", "unsure"]
EditKind = Literal["remove", "sham", "roundtrip"]
LabelStatus = Literal["agreed", "adjudicated", "conflict", "missing"]
DerivedVerdict = Literal["safe", "unsafe", "undetermined"]
Decision = Literal["accepted", "rejected"]
