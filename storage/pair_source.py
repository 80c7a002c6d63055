"""Pairs of pictures as others publish them: an original and its edit, with labels, splits and masks if there are any.

A row of a table is one picture (SafeEditBench: `x.jpg` and `x_edited.jpg`, one row for each policy) or a whole pair; in
a folder every file is a picture, and `metadata.csv` or `metadata.jsonl` beside them may say more. What is listed holds
no pixels; they are read one picture at a time.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.csv
import pyarrow.json

from storage.errors import FatalError
from storage.folder import files_below
from storage.images import SUFFIXES
from storage.pair_columns import SPLIT, VARIANT, Layout, PairColumns
from storage.reading import NO_CAP, read_file
from storage.table_source import TableReader, is_table

Role = Literal["original", "edited", "sham", "roundtrip"]
Labels = Mapping[str, str]  # by policy: safe, unsafe, or "both" where the source contradicts itself

_VERDICTS = {
    **dict.fromkeys(("safe", "0", "false", "pass", "compliant"), "safe"),
    **dict.fromkeys(("unsafe", "1", "true", "block", "review needed"), "unsafe"),
}
_SIDE = re.compile(r"(?P<stem>.+)_(?P<role>sham|roundtrip)")
_SPLIT_NAMES = ("train", "test", "validation", "valid", "val", "dev")
_SPLIT_OF_PART = re.compile(rf"(?:^|[/_.-])({'|'.join(_SPLIT_NAMES)})(?=[/_.-]|$)")
_SIDE_FOLDERS = ("original", "originals", "edited")
_METADATA = ("metadata.csv", "metadata.jsonl")
_EXPORT = ("benchmark/", "rl/train")  # where our own export keeps labelled pictures, each once


@dataclass(frozen=True, slots=True)
class Place:
    """Where a picture's bytes are: a file of the folder, or a row and column of a table."""

    part: str
    row: int = -1
    column: str = ""


@dataclass(slots=True)
class Picture:
    """One side: what it is called, its split ("" where nothing says), and its labels."""

    name: str
    split: str
    place: Place
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourcePair:
    """An original and its edit; None where the partner is missing."""

    pair_id: str
    role: Role
    original: Picture | None
    edited: Picture | None
    masks: tuple[Place, ...] = ()  # the first that is not empty counts


class PairSource:
    """The pairs of a folder, a Parquet or Arrow file, or a folder of those.

    Raises FatalError, naming the option that helps, when there is nothing to read or a column is missing.
    """

    def __init__(self, place: str, columns: PairColumns) -> None:
        self._path, self._columns = Path(place), columns
        if "://" in place:
            raise FatalError(f"{place} is not on this machine. Download it, and name the folder.")
        if not self._path.exists():
            raise FatalError(
                f"{place} does not exist. Give a folder of pictures, a .parquet file, or a folder of them."
            )
        self._is_table = is_table(self._path)
        if not self._is_table and not self._path.is_dir():
            raise FatalError(f"{place} is neither a folder nor a .parquet or .arrow file.")
        self._readers: dict[str, TableReader] = {}
        self.unread_labels: dict[str, int] = {}

    def pairs(self) -> list[SourcePair]:
        """All pairs, in the order of the source; pictures without a partner come last."""
        found = _Found(self._columns.suffix)
        for part in self._parts() if self._is_table else ():
            self._list_part(part, found)
        if not self._is_table:
            self._list_folder(found)
        pairs = found.pairs()
        if not pairs:
            raise FatalError(f"{self._path} holds no picture.")
        return pairs

    def read(self, place: Place, reader: str) -> bytes:
        """A picture's bytes. `reader` names who reads on: what each holds ready is the place where it read last.

        Raises what `TableReader.image` and `read_file` raise.
        """
        if place.row < 0:
            return read_file(self._path / place.part, NO_CAP)
        return self._reader(reader).image(place.part, place.row, place.column)

    def _reader(self, name: str) -> TableReader:
        if name not in self._readers:
            self._readers[name] = TableReader(self._path, self._columns.root)
        return self._readers[name]

    def _parts(self) -> list[str]:
        parts = [name for name, _ in self._reader("").parts() if not self._is_of_an_audit(name)]
        ours = (self._path / "dataset_info.json").is_file() and [p for p in parts if p.startswith(_EXPORT)]
        return ours or parts

    def _is_of_an_audit(self, part: str) -> bool:
        """Whether a table was written by an earlier audit, below the set that it judged."""
        file = self._path / part
        return file.name == "pairs.parquet" and (file.parent / "summary.json").exists()

    def _list_part(self, part: str, found: "_Found") -> None:
        reader = self._reader("")
        schema = reader.schema(part)
        layout = Layout.of(f"{self._path}", schema, self._columns)
        names = reader.names(part, layout.image) if layout.edited is None and layout.path is None else None
        if layout.edited is None and layout.path is None and (not names or not any(names)):
            raise FatalError(
                f"{self._path / part} has a picture in each row and nothing that names it, so there are no pairs. It "
                f"has {', '.join(schema.names)}. Name the column of file names, such as x.jpg and "
                f"x{self._columns.suffix}.jpg, with --path; or that of the edited pictures with --edited."
            )
        for number, values in enumerate(reader.rows(part, layout.told)):
            split = str(values.get(SPLIT) or _split_of_part(part))
            before, after = self._labels(values, layout)
            if layout.edited is not None:
                name = str(values[layout.path]) if layout.path else f"{part}#{number}"
                sides = [Picture(name, split, Place(part, number, c), said)
                         for c, said in ((layout.image, before), (layout.edited, after))]  # fmt: skip
                mask = Place(part, number, layout.mask) if layout.mask else None
                found.add_whole(SourcePair(name, "edited", sides[0], sides[1], () if mask is None else (mask,)))
            elif not values.get(VARIANT):
                name = str(values[layout.path]) if layout.path else names[number] if names else ""
                mask = Place(part, number, layout.mask) if layout.mask else None
                found.add(Picture(name, split, Place(part, number, layout.image), before), mask)

    def _labels(self, values: Mapping[str, Any], layout: "Layout") -> tuple[dict[str, str], dict[str, str]]:
        """What a row says of its picture, or of both, by policy."""
        policy = str(values[layout.policy]) if layout.policy and len(layout.labels) == 1 else None

        def said(columns: Sequence[str]) -> dict[str, str]:
            names = [policy] if policy is not None else layout.labels
            found = {name: self._verdict(values[column]) for name, column in zip(names, columns, strict=False)}
            return {name: verdict for name, verdict in found.items() if verdict}

        return said(layout.labels), said(layout.edited_labels)

    def _verdict(self, value: Any) -> str:
        """Safe or unsafe; "" for no label. What is neither is counted."""
        if isinstance(value, float):  # as pandas writes a column of numbers in which one is missing
            value = None if math.isnan(value) else int(value) if value.is_integer() else value
        text = str(value).strip().lower().removesuffix(".0") if value is not None else ""
        if text and text not in _VERDICTS:
            self.unread_labels[text] = self.unread_labels.get(text, 0) + 1
        return _VERDICTS.get(text, "")

    def _list_folder(self, found: "_Found") -> None:
        files = [one.name for one in sorted(files_below(self._path))]
        said = {key: value for name in files if name.split("/")[-1] in _METADATA for key, value in self._metadata(name)}
        pictures = [name for name in files if Path(name).suffix.lower() in SUFFIXES]
        stems = {name.rpartition(".")[0]: name for name in pictures}
        masks = {f"{stem}_mask": stems.get(f"{stem}_mask") for stem in stems}
        for name in pictures:
            stem = name.rpartition(".")[0]
            if stem.endswith("_mask") and stem.removesuffix("_mask") in stems:
                continue
            mask = masks.get(f"{stem}_mask")
            split, labels = said.get(name, (_split_of_file(name), {}))
            found.add(Picture(name, split, Place(name), labels), Place(mask) if mask else None)

    def _metadata(self, name: str) -> Iterator[tuple[str, tuple[str, dict[str, str]]]]:
        """What a file in the form of `datasets`' image folders says: picture, its split and labels."""
        file = self._path / name
        try:
            table = pyarrow.csv.read_csv(file) if name.endswith(".csv") else pyarrow.json.read_json(file)
        except (pa.ArrowException, OSError) as error:
            raise FatalError(f"{file} cannot be read ({error}). Mend it, or leave it out.") from error
        if "file_name" not in table.column_names:
            raise FatalError(f"{file} has no column file_name. It has {', '.join(table.column_names)}.")
        layout = Layout.of_labels(str(file), table.column_names, self._columns)
        merged: dict[str, tuple[str, dict[str, str]]] = {}
        for row in table.to_pylist():
            picture = (Path(name).parent / str(row["file_name"])).as_posix()
            known = merged.setdefault(picture, (str(row.get(SPLIT) or _split_of_file(picture)), {}))
            _merge(known[1], self._labels(row, layout)[0])
        yield from merged.items()


def _split_of_part(name: str) -> str:
    found = _SPLIT_OF_PART.search(name)
    return "" if found is None else found[1]


def _split_of_file(name: str) -> str:
    return next((folder for folder in name.split("/")[:-1] if folder in _SPLIT_NAMES), "")


def _merge(labels: dict[str, str], more: Labels) -> None:
    for policy, verdict in more.items():
        labels[policy] = verdict if labels.get(policy, verdict) == verdict else "both"


class _Found:
    """Pictures in the making of pairs."""

    def __init__(self, suffix: str) -> None:
        self._suffix = suffix
        self._pictures: dict[tuple[str, str], Picture] = {}
        self._masks: dict[tuple[str, str], Place] = {}
        self._whole: dict[tuple[str, str], SourcePair] = {}

    def add(self, picture: Picture, mask: Place | None) -> None:
        """A picture that was seen before under the same name and split only adds its labels."""
        key = picture.split, picture.name
        known = self._pictures.setdefault(key, picture)
        if known is not picture:
            _merge(known.labels, picture.labels)
        if mask is not None:
            self._masks.setdefault(key, mask)

    def add_whole(self, pair: SourcePair) -> None:
        """A pair that was seen before under the same name and split (a row for each policy) only adds its labels."""
        assert pair.original is not None
        assert pair.edited is not None
        known = self._whole.setdefault((pair.original.split, pair.pair_id), pair)
        if known is not pair and known.original is not None and known.edited is not None:
            _merge(known.original.labels, pair.original.labels)
            _merge(known.edited.labels, pair.edited.labels)

    def pairs(self) -> list[SourcePair]:
        """Partners of one split first; what is left over may have its partner in another one."""
        originals: dict[tuple[str, str], tuple[str, str]] = {}
        elsewhere: dict[str, tuple[str, str]] = {}
        edits: list[tuple[tuple[str, str], str, Role]] = []
        more: list[tuple[str, tuple[str, str]]] = []
        for key in self._pictures:
            stem, role = self._side_of(key[1])
            if role == "original" and (key[0], stem) in originals:
                more.append((stem, key))  # x.jpg beside x.png: nobody says which of them was edited
            elif role == "original":
                originals[key[0], stem] = key
                elsewhere.setdefault(stem, key)
            else:
                edits.append((key, stem, role))
        pairs, used = [], set()
        for key, stem, role in edits:
            at = originals.get((key[0], stem)) or elsewhere.get(stem)
            used.add(at)
            original = self._pictures[at] if at else None
            masks = tuple(m for m in (self._masks.get(key), self._masks.get(at) if at else None) if m is not None)
            pairs.append(SourcePair(stem, role, original, self._pictures[key], masks))
        alone = [
            SourcePair(stem, "original", self._pictures[at], None)
            for (_, stem), at in originals.items()
            if at not in used
        ]
        alone += [SourcePair(stem, "original", self._pictures[key], None) for stem, key in more]
        return [*self._whole.values(), *pairs, *alone]

    def _side_of(self, name: str) -> tuple[str, Role]:
        """What a picture's name shares with its other side, and which side it is: by its ending, or by a folder that is
        called `edited`. The folder of a split is no part of it."""
        *folders, last = (name.rpartition(".")[0] or name).split("/")
        stem = "/".join([*(one for one in folders if one.lower() not in (*_SIDE_FOLDERS, *_SPLIT_NAMES)), last])
        suffix = self._suffix.lower()
        if suffix and stem.lower().endswith(suffix) and len(stem) > len(suffix):
            return stem[: -len(suffix)], "edited"
        match = _SIDE.fullmatch(stem)
        if match:
            return match["stem"], "sham" if match["role"] == "sham" else "roundtrip"
        return stem, "edited" if "edited" in map(str.lower, folders) else "original"
