"""Block lists as those who share hashes hand them out: which images are blocked, whatever the form of the file.

- Text, one hash a line with its kind before it (`md5:`, `sha1:`, `sha256:`, `phash:`, `pdq:`); `#` starts a comment.
- ThreatExchange: CSV of its command (`signal_type`, `signal_str`), or JSON of indicators.
- NCMEC: XML of its hash sharing, version 2. StopNCII: JSON with `hashRecords`.

What was withdrawn, is known to be harmless or is about videos blocks no image. An image whose hashes are all of kinds
that nobody can compute here (PhotoDNA) stops the reading: the gate would let it in.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from storage.errors import FatalError
from storage.validation import read_json, reading

_DIGITS = {"md5": 32, "sha1": 40, "sha256": 64, "phash": 16, "pdq": 64}
_LINE = re.compile(r"(?:(?P<kind>[\w-]+)(?:\s*:\s*|\s+))?(?P<digits>[0-9a-f]+)")
_KIND = re.compile(r"^(hash_|image_?)|[-_]")  # what partners write around a kind: HASH_MD5, ImagePDQ
_OF_VIDEOS = ("video", "tmk", "vpdq")
_HARMLESS = {"negative_class", "non_malicious", "withdrawn", "deleted"}  # as category, status or hashStatus


def read_hashes(path: Path) -> dict[str, frozenset[str]]:
    """Lower-case hex digits by kind; raises FatalError naming what cannot be read or understood."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise FatalError(f"Cannot read the block list {path}: {why}. No image is let in without it.") from error
    found: dict[str, set[str]] = {}
    try:
        for kind, digits in _hashes(text):
            found.setdefault(kind, set()).add(digits)
    except (ValueError, ElementTree.ParseError, csv.Error) as error:
        raise FatalError(f"{path}, {error}. No image is let in without it.") from error
    return {kind: frozenset(digits) for kind, digits in found.items()}


def _hashes(text: str) -> Iterator[tuple[str, str]]:
    start, lines = text.lstrip()[:1], text.splitlines()
    if start == "<":
        return _of_xml(text)
    if start in ("{", "["):
        return _of_json(text)
    if lines and {"signal_type", "signal_str"} <= set(next(csv.reader(lines[:1]), [])):
        return _of_csv(lines)
    return _of_lines(lines)


def _of_lines(lines: list[str]) -> Iterator[tuple[str, str]]:
    for number, text in enumerate(lines, start=1):
        if entry := text.split("#")[0].strip().lower():
            with reading(f"line {number}"):
                yield _hash_of(entry)


def _of_csv(lines: list[str]) -> Iterator[tuple[str, str]]:
    for number, row in enumerate(csv.DictReader(lines), start=2):
        with reading(f"line {number}"):
            if str(row.get("category")).lower() not in _HARMLESS:
                yield _hash_of(f"{row['signal_type']}:{row['signal_str']}".lower())


def _of_json(text: str) -> Iterator[tuple[str, str]]:
    """ThreatExchange's indicators, StopNCII's records, and pages of either."""
    value = read_json(text)
    pages = value if isinstance(value, list) else [value]
    for number, page in enumerate(pages, start=1):
        with reading(f"entry {number}"):
            for record in page.get("hashRecords", page.get("data", [page])):
                yield from _of_record(record)
            if number == len(pages) and (page.get("hasMoreRecords") or (page.get("paging") or {}).get("next")):
                raise ValueError("it says that more records follow; put every page into one JSON list")


def _of_record(record: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    status = str(record.get("hashStatus", record.get("status"))).lower()
    if status not in _HARMLESS and not record.get("should_delete"):
        kind = record["signalType"] if "signalType" in record else record["type"]
        digits = next((record[name] for name in ("hashValue", "raw_indicator") if name in record), None)
        yield from _of_image({kind: record["indicator"] if digits is None else digits})


def _of_xml(text: str) -> Iterator[tuple[str, str]]:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("it has a DOCTYPE, which no list of hashes needs")
    root = ElementTree.fromstring(text)
    if _name(root) != "queryresult":
        raise ValueError(f"its XML is a {_name(root)}, where NCMEC's lists are a queryResult")
    if any(_name(element) == "next" and (element.text or "").strip() for element in root.iter()):
        raise ValueError("it says that more pages follow; put the entries of every page into one queryResult")
    for entry in root.iter():
        if _name(entry) == "image":  # not deletedImage, whose hashes are withdrawn, and not video
            parts = {_name(part): part for part in entry}
            number = parts["id"].text if "id" in parts else "without an id"
            with reading(f"image {number}"):
                yield from _of_image({_name(hashed): hashed.text or "" for hashed in parts["fingerprints"]})


def _name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2].lower()


def _of_image(hashes: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Those of an image's hashes that can be computed here."""
    written = {_KIND.sub("", kind.lower()): digits for kind, digits in hashes.items()}
    of_images = {kind: digits for kind, digits in written.items() if not kind.startswith(_OF_VIDEOS)}
    known = [f"{kind}:{digits}".lower() for kind, digits in of_images.items() if kind in _DIGITS]
    if not known and (of_images or not written):
        raise ValueError(f"it has only {', '.join(of_images) or 'no hash'}, which cannot be computed here; take it out")
    yield from map(_hash_of, known)


def _hash_of(entry: str) -> tuple[str, str]:
    """The kind and the digits; raises ValueError for what might be two things, or is none."""
    found = _LINE.fullmatch(entry)
    kind, digits = (found["kind"], found["digits"]) if found else (None, "")
    if found and kind is None:
        fitting = [f"{name}:" for name, count in _DIGITS.items() if count == len(digits)]
        if fitting:
            raise ValueError(
                f"{len(digits)} hex digits do not say what hash they are. Write {' or '.join(fitting)} before them"
            )
    kind = _KIND.sub("", kind or "")
    if _DIGITS.get(kind) != len(digits):
        forms = ", ".join(f"{name}: and {count}" for name, count in _DIGITS.items())
        raise ValueError(f"expected {forms} hex digits")
    return kind, digits
