"""Ingest: from a folder's files to images that may be used. The gate stands inside, before anything is stored."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from storage.errors import FatalError, SampleError
from storage.gate import BlockList
from storage.images import SUFFIXES, decode, encode_png, perceptual_hash
from storage.records import Image, SourceFile, canonical_json, from_table, sha256_hex
from storage.stage import BatchResult, quarantine_boundary
from storage.workspace import Workspace

INGEST_VERSION = 1


class IngestSettings(BaseModel):
    """What may come in, and under which licence."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(default=50_000_000, gt=0, description="larger files are refused unread")
    max_pixels: int = Field(default=100_000_000, gt=0, description="larger images are refused undecoded")
    block_list: Path | None = Field(default=None, description="text file of blocked SHA-256 and pHash values")
    block_distance: int = Field(default=6, ge=0, le=16, description="pHash bits that may differ from a blocked one")
    licence: str = Field(default="unspecified", description="licence of the images, as an SPDX id where there is one")
    exportable: bool = Field(default=True, description="whether that licence lets the images leave in an export")
    shard_rows: int = Field(default=64, gt=0, description="files per shard, the unit of progress and resume")


def list_folder(folder: Path) -> list[SourceFile]:
    """Every file below `folder` whose path has no hidden part, sorted by name.

    Raises FatalError when the folder is missing or holds no file.
    """
    if not folder.is_dir():
        raise FatalError(f"The input folder {folder} does not exist.")
    found = []
    for path in sorted(folder.rglob("*")):
        key = path.relative_to(folder)
        if any(part.startswith(".") for part in key.parts) or not path.is_file():
            continue
        stat = path.stat()
        found.append(SourceFile(str(folder), key.as_posix(), stat.st_size, stat.st_mtime_ns))
    if not found:
        raise FatalError(f"The input folder {folder} holds no file.")
    return found


def ingest_batch(
    batch: Sequence[SourceFile], *, workspace: Workspace, cfg: IngestSettings, blocked: BlockList
) -> BatchResult[Image]:
    """Read, decode, hash, gate and store each file."""
    return BatchResult([_ingest(file, workspace, cfg, blocked) for file in batch])


def _ingest(file: SourceFile, workspace: Workspace, cfg: IngestSettings, blocked: BlockList) -> Image:
    suffix = Path(file.key).suffix.lower()
    if suffix not in SUFFIXES:
        raise SampleError(
            "unsupported_format", f"{suffix or 'A file without a suffix'} is not an image format read here."
        )
    if file.size_bytes > cfg.max_bytes:
        raise SampleError("too_many_bytes", f"{file.size_bytes} bytes is more than the cap of {cfg.max_bytes}.")
    try:
        data = (Path(file.source) / file.key).read_bytes()
    except OSError as error:
        raise SampleError("unreadable", f"{error.strerror}") from error
    decoded = decode(data, max_pixels=cfg.max_pixels)
    if decoded.format != SUFFIXES[suffix]:
        raise SampleError("mislabelled", f"Named {suffix}, but the bytes are {decoded.format}.")
    height, width, _ = decoded.rgb.shape
    image_id = sha256_hex(data)
    phash = perceptual_hash(decoded.rgb)
    blocked.check(image_id, phash)
    return Image(
        image_id=image_id,
        blob=workspace.blobs.put(data if decoded.keep_bytes else encode_png(decoded.rgb)),
        family_id=image_id,
        source=file.source,
        source_key=file.key,
        width=width,
        height=height,
        format=decoded.format,
        phash=phash,
        licence=cfg.licence,
        exportable=cfg.exportable,
        meta_json=canonical_json(decoded.changes),
    )


class IngestStage:
    """Files to images, one shard at a time."""

    def __init__(self, root: str, cfg: IngestSettings) -> None:
        self._workspace = Workspace.open(root)
        self._cfg = cfg
        self._blocked = BlockList.read(cfg.block_list, max_distance=cfg.block_distance)

    def run_shard(self, shard: pa.Table) -> BatchResult[Image]:
        step = partial(ingest_batch, workspace=self._workspace, cfg=self._cfg, blocked=self._blocked)
        return quarantine_boundary(from_table(shard, SourceFile), step, key=lambda file: file.key)
