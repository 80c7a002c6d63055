"""A list of paths: a JSON Lines file that names images."""

import codecs
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from storage.errors import FatalError, SampleError
from storage.listing import ColumnSettings, Rows, about_of, check_keys, licence_of
from storage.reading import NO_CAP, S3, PathReader, Read, in_order
from storage.records.images import SourceFile
from storage.validation import read_json

_LONGEST_LINE = 2**26  # bytes; the boxes of one image are a few thousand
_OTHER_TEXTS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class ManifestSource:
    """A JSON Lines file; each line names an image by a path below its folder or `columns.root`, or an s3:// URL."""

    kind: Literal["manifest"] = "manifest"

    def __init__(self, place: str, columns: ColumnSettings) -> None:
        self._path, self._columns = Path(place), columns
        self._reader = PathReader(self._path.parent, columns.root)

    def list(self) -> pa.Table:
        rows = Rows()
        modified_ns = self._path.stat().st_mtime_ns
        chosen = self._columns.chosen()
        for number, line in self._lines():
            image = line.get(self._columns.image, line.get("path"))
            missing = [name for name in chosen.values() if name not in line]
            if not isinstance(image, str) or missing:
                what = f"column {missing[0]!r}" if missing else f"path under {self._columns.image!r} or 'path'"
                raise FatalError(f"{self._path}, line {number}: there is no {what}. It has {', '.join(line)}.")
            key = str(line[chosen["key"]]) if "key" in chosen else image
            modified = modified_ns if image.startswith(S3) else self._modified(image)
            said = {"licence": licence_of(line, chosen), "about_json": about_of(line, chosen)}
            rows.add(key, -1, modified, part=image, **said)
        table = rows.table()
        if not table.num_rows:
            raise FatalError(f"{self._path} names no image.")
        return check_keys(table, self._path)

    def _modified(self, image: str) -> int:
        """The time of the image itself, so that a longer manifest does not make its old lines new."""
        try:
            return self._reader.place(image).stat().st_mtime_ns
        except (OSError, ValueError, SampleError):
            return 0  # refused when it is read

    def _lines(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        with self._path.open("rb") as file:
            for number, data in enumerate(iter(partial(file.readline, _LONGEST_LINE), b""), start=1):
                if len(data) == _LONGEST_LINE:
                    raise FatalError(f"{self._path}, line {number}: longer than {_LONGEST_LINE} bytes; it is no list.")
                if number == 1:
                    data = data.removeprefix(codecs.BOM_UTF8)
                text = self._text(data, number)
                if text:
                    yield number, self._line(text, number)

    def _text(self, data: bytes, number: int) -> str:
        try:
            return data.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            what = "UTF-16" if data.startswith(_OTHER_TEXTS) else "not UTF-8"
            raise FatalError(f"{self._path}, line {number}: the text is {what}. Save it as UTF-8.") from error

    def _line(self, text: str, number: int) -> Mapping[str, Any]:
        try:
            line = read_json(text)
        except ValueError as error:
            raise FatalError(f"{self._path}, line {number}: not JSON ({error}).") from error
        if not isinstance(line, dict):
            raise FatalError(f"{self._path}, line {number}: not a JSON object.")
        return line

    def read_many(self, files: Sequence[SourceFile], max_bytes: int = NO_CAP) -> Iterator[Read]:
        far = any(file.part.startswith(S3) for file in files)
        return in_order(lambda file: self._reader.read_anywhere(file.part, max_bytes), files, far=far)
