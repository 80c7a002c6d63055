"""Ingest: from a source's files to images that may be used. The gate stands inside, before anything is stored."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from storage.errors import SampleError
from storage.gate import BlockList
from storage.images import SUFFIXES, Decoded, decode, encode_png
from storage.listing import ColumnSettings
from storage.reading import Read, too_many
from storage.records.ids import canonical_json, sha256_hex
from storage.records.images import Image, SourceFile
from storage.records.tables import from_table
from storage.sources import Source, open_source
from storage.stage import BatchResult, Decides, How, joined, quarantine_boundary
from storage.tombstones import forgotten
from storage.turns import hash_of, hashed_pixels, upright_hashes
from storage.workspace import Workspace


class IngestSettings(BaseModel):
    """What may come in, and under which licence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: Decides[int] = Field(default=50_000_000, gt=0, description="larger files are refused unread")
    max_pixels: Decides[int] = Field(default=100_000_000, gt=0, description="larger images are refused undecoded")
    max_aspect: Decides[float] = Field(
        default=100, ge=1, description="longer side over shorter; thinner images are refused (Qwen-VL takes up to 200)"
    )
    block_list: Decides[Path | None] = Field(
        default=None, description="text file of blocked hashes, each after its kind: md5:, sha1:, sha256:, phash:, pdq:"
    )
    block_distance: Decides[int] = Field(
        default=6, ge=0, le=16, description="pHash bits that may differ from a blocked one"
    )
    licence: Decides[str] = Field(
        default="unspecified", description="licence of the images, as an SPDX id where there is one"
    )
    exportable: Decides[bool] = Field(
        default=True, description="whether that licence lets the images leave in an export"
    )
    columns: ColumnSettings = ColumnSettings()
    shard_rows: How[int] = Field(
        default=64,
        gt=0,
        description="files per shard, the unit of progress and resume; finished shards keep their size",
    )


def _check_name(file: SourceFile) -> str:
    """The suffix of a file; a row of a table has none."""
    if file.row >= 0:
        return ""
    suffix = Path(file.part or file.key).suffix.lower()
    if suffix not in SUFFIXES:
        raise SampleError(
            "unsupported_format", f"{suffix or 'A file without a suffix'} is not an image format read here."
        )
    return suffix


@dataclass(frozen=True)
class Admitted:
    """An image that may come in, not stored yet."""

    decoded: Decoded
    image_id: str
    phash: str
    upright: tuple[str, ...]


def admit(file: SourceFile, data: Read, settings: IngestSettings, blocked: BlockList) -> Admitted:
    """Decode and hash an image; raises SampleError with the code under which it would be refused."""
    suffix = _check_name(file)
    if isinstance(data, SampleError):
        raise data
    if isinstance(data, Exception):
        raise SampleError("unreadable", getattr(data, "strerror", None) or str(data)) from data
    if len(data) > settings.max_bytes:
        raise too_many(len(data), settings.max_bytes)
    decoded = decode(data, max_pixels=settings.max_pixels)
    if suffix and decoded.format != SUFFIXES[suffix]:
        raise SampleError("mislabelled", f"Named {suffix}, but the bytes are {decoded.format}.")
    width, height = decoded.image.size
    if max(width, height) > settings.max_aspect * min(width, height):
        raise SampleError(
            "too_thin", f"{width}x{height}: one side is more than {settings.max_aspect:g} times the other."
        )
    hashed = hashed_pixels(decoded.image)
    blocked.check(data, decoded.image)
    return Admitted(decoded, sha256_hex(data), hash_of(hashed), upright_hashes(hashed))


def _ingest(file: SourceFile, data: Read, workspace: Workspace, settings: IngestSettings, blocked: BlockList) -> Image:
    admitted = admit(file, data, settings, blocked)
    assert isinstance(data, bytes)  # else it was refused
    decoded, image_id = admitted.decoded, admitted.image_id
    width, height = decoded.image.size
    return Image(
        image_id=image_id,
        blob=_store(workspace, data, image_id, decoded),
        family_id=image_id,
        source_key=file.key,
        width=width,
        height=height,
        format=decoded.format,
        phash=admitted.phash,
        licence=file.licence or settings.licence,
        exportable=settings.exportable,
        meta_json=canonical_json(decoded.changes | json.loads(file.about_json)),
        upright=admitted.upright,
    )


def _store(workspace: Workspace, data: bytes, image_id: str, decoded: Decoded) -> str:
    """The blob's SHA-256: that of the source bytes where they are kept."""
    if decoded.keep_bytes:
        return workspace.blobs.put(data, sha256=image_id)
    return workspace.blobs.put(encode_png(decoded.rgb))


def read_small(source: Source, files: Sequence[SourceFile], settings: IngestSettings) -> Iterator[Read]:
    """What may be read, in the order of `files`; a file that is too large or no image by its name is never opened."""
    refused = [_refused_unread(file, settings) for file in files]
    wanted = [file for file, error in zip(files, refused, strict=True) if error is None]
    found = source.read_many(wanted, settings.max_bytes) if wanted else iter(())
    for error in refused:
        yield next(found) if error is None else error


def _refused_unread(file: SourceFile, settings: IngestSettings) -> SampleError | None:
    try:
        _check_name(file)
    except SampleError as error:
        return error
    return too_many(file.size_bytes, settings.max_bytes) if file.size_bytes > settings.max_bytes else None


class IngestStage:
    """Files to images, one shard at a time: read side by side, then decoded, hashed, gated and stored one by one."""

    def __init__(self, workspace: Workspace, place: str, settings: IngestSettings, blocked: BlockList) -> None:
        self._workspace = workspace
        self._settings = settings
        self._blocked = blocked
        self._forgotten = forgotten(workspace)
        self._source = open_source(place, settings.columns)

    def run_shard(self, shard: pa.Table) -> BatchResult[Image]:
        files = from_table(shard, SourceFile)
        parts = []
        for file, data in zip(files, read_small(self._source, files, self._settings), strict=True):
            step = partial(self._one, data=data)
            parts.append(quarantine_boundary([file], step, key=lambda file: file.key))
        return joined(parts)

    def _one(self, batch: Sequence[SourceFile], *, data: Read) -> BatchResult[Image]:
        if isinstance(data, bytes) and sha256_hex(data) in self._forgotten:
            raise SampleError("forgotten", "It was forgotten and may not come back.")
        return BatchResult([_ingest(batch[0], data, self._workspace, self._settings, self._blocked)])
