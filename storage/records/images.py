"""The images of a source, and those that may be used."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One image of a source, before it is read. Its size and time stand in for its content."""

    SCHEMA_VERSION: ClassVar[int] = 3

    key: str  # path below the source, or the name of a row
    size_bytes: int  # -1 where a listing does not say
    modified_ns: int
    licence: str = ""  # "" where the source does not say
    about_json: str = "{}"  # category, boxes and labels that the source knows
    part: str = ""  # the file or path behind a row of a table or manifest
    row: int = -1  # 0-based, within `part`


@dataclass(frozen=True, slots=True)
class Image:
    """One image that may be used. `image_id` hashes the source bytes, `blob` the stored (decodable) bytes."""

    SCHEMA_VERSION: ClassVar[int] = 2

    image_id: str
    blob: str
    family_id: str  # the smallest image_id among the copies of its picture
    source_key: str  # its name in its source
    width: int
    height: int
    format: str  # as decoded, e.g. "JPEG"
    phash: str  # 16 hex digits, ImageHash's 64-bit DCT hash
    licence: str
    exportable: bool
    meta_json: str  # what was normalised when decoding, e.g. {"exif_orientation": 6}
    upright: tuple[str, ...] = ()  # 17 hex digits: the hash of the picture stood upright, and the turn that does it


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as a model is shown it. What its source says is there only for who goes by it, and else empty: a stage
    whose rows hold no more than it reads is not run again for the rest."""

    SCHEMA_VERSION: ClassVar[int] = 1

    image_id: str
    blob: str
    source_key: str = ""
    meta_json: str = "{}"
