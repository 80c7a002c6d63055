"""Every record of the pipeline, defined once: a frozen dataclass whose Arrow schema is derived from its fields.

Ids are content hashes (lower-case hex SHA-256), so the same work has the same id on every machine.
Boxes are `(x0, y0, x1, y1)` in pixels of the original image, `x1` and `y1` exclusive.
"""

import dataclasses
import functools
import hashlib
import itertools
import json
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_origin

import pyarrow as pa
from pydantic import TypeAdapter

Verdict = Literal["safe", "unsafe", "unsure"]
EditKind = Literal["remove", "sham", "roundtrip"]
LabelStatus = Literal["agreed", "adjudicated", "conflict", "missing"]
DerivedVerdict = Literal["safe", "unsafe", "undetermined"]
Decision = Literal["accepted", "rejected"]


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
    family_id: str  # the smallest image_id among its near-duplicates
    source_key: str  # its name in its source
    width: int
    height: int
    format: str  # as decoded, e.g. "JPEG"
    phash: str  # 16 hex digits, ImageHash's 64-bit DCT hash
    licence: str
    exportable: bool
    meta_json: str  # what was normalised when decoding, e.g. {"exif_orientation": 6}


@dataclass(frozen=True, slots=True)
class Picture:
    """An image as a model is shown it. What its source says is there only for who goes by it, and else empty: a stage
    whose rows hold no more than it reads is not run again for the rest."""

    SCHEMA_VERSION: ClassVar[int] = 1

    image_id: str
    blob: str
    source_key: str = ""
    meta_json: str = "{}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One region of an image and what it shows."""

    finding_id: str
    attributes: tuple[str, ...]
    rule_ids: tuple[str, ...]  # rules that the locator named itself, e.g. "L2.R1"
    box: tuple[int, ...]
    mask: str  # blob of a 1-bit PNG of the image's size, "" when only the box is known
    instruction: str  # what an editor is asked to do; "" where the locator did not say
    score: float  # the locator's confidence, 1.0 when it gives none


@dataclass(frozen=True, slots=True)
class Located:
    """Everything that a locator found in one image; `findings` may be empty."""

    SCHEMA_VERSION: ClassVar[int] = 1

    image_id: str
    attributes: tuple[str, ...]  # sorted union over the findings
    findings: tuple[Finding, ...]
    locator: str  # fingerprint


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model that sees an edited image said to a yes-or-no question about its `region` or the whole `image`."""

    question: str
    scope: str
    text: str
    passed: bool


@dataclass(frozen=True, slots=True)
class DerivedPair:
    """What one policy's rules say about an original and its edit."""

    policy_id: str
    before: DerivedVerdict
    after: DerivedVerdict
    rules_before: tuple[str, ...]  # the rules that make the original unsafe, or might
    rules_after: tuple[str, ...]

    @property
    def flips(self) -> bool:
        """The rules forbid the original and allow the edit."""
        return self.before == "unsafe" and self.after == "safe"


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was measured on one edit; `None` where a measure does not apply."""

    outside_max_abs_diff: int  # 0..255, over pixels outside the feathered mask
    outside_ssim: float
    inside_changed_ratio: float  # share of masked pixels that changed by more than 8/255 in any channel
    mask_area_ratio: float  # masked share of the image
    phash_distance: int  # Hamming distance of the 64-bit perceptual hashes
    attributes_after: tuple[str, ...]  # what the edited image shows
    rechecked: bool = True  # whether a model looked at the edited image, or this follows from what was asked for
    outside_changed_ratio: float = 0.0  # share of the pixels outside that changed by more than 8/255
    outside_psnr_db: float | None = None  # None when the pixels outside are identical
    shift_px: float = 0.0  # length of the translation that best aligns the two images
    zoom: float = 1.0  # scale that best aligns them
    outside_lpips: float | None = None  # None when nobody asked for it
    answers: tuple[Answer, ...] = ()  # to the questions of the settings; asked where nothing else speaks against it


@dataclass(frozen=True, slots=True)
class EditTask:
    """One image to be edited: the regions to repaint (the violating ones, or neutral ones for a sham)."""

    SCHEMA_VERSION: ClassVar[int] = 1

    image_id: str
    blob: str
    family_id: str
    phash: str
    attributes: tuple[str, ...]  # what the image shows before
    targets: tuple[Finding, ...]
    kind: EditKind = "remove"


@dataclass(frozen=True, slots=True)
class Edit:
    """One edited candidate. `edited` is the twin as an image of its own."""

    SCHEMA_VERSION: ClassVar[int] = 1

    edit_id: str
    image_id: str  # the original
    original_blob: str
    original_phash: str
    edited_id: str  # SHA-256 of the edited image's bytes, which are also its blob
    family_id: str  # that of the original
    kind: EditKind
    candidate: int  # 0-based
    seed: int
    attributes_before: tuple[str, ...]
    target_attributes: tuple[str, ...]  # what the editor was asked to remove
    mask: str  # blob of the union mask, a 1-bit PNG of the image's size
    editor: str  # fingerprint
    width: int
    height: int
    phash: str
    certificate: Certificate | None
    attributes_removed: tuple[str, ...]
    verdict: Decision | None
    reasons: tuple[str, ...]
    composited: bool = True  # pixels outside the feathered mask were taken from the original
    derived: tuple[DerivedPair, ...] = ()  # one per policy, once the edit is selected

    @property
    def blob(self) -> str:
        """The edited image's bytes; an edit is stored just as it was encoded."""
        return self.edited_id


@dataclass(frozen=True, slots=True)
class Generation:
    """How a text was generated, and what it cost: all its requests together."""

    model_id: str  # a folder, a hub id or a server's name for it
    revision: str  # "" when none was asked for
    prompt_file: str
    temperature: float  # 0 is greedy
    seed: int
    requests: int
    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Caption:
    """A model's own words about one image. Only status `ok` leaves quarantine."""

    SCHEMA_VERSION: ClassVar[int] = 1

    image_id: str
    text: str
    status: Literal["ok", "refused", "empty", "truncated", "looped"]
    model: str  # fingerprint
    prompt_hash: str
    generation: Generation | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """A finding as a caption may tell it: what is seen, and in which cell of a 3x3 grid, e.g. "lower left"."""

    attribute: str
    place: str


@dataclass(frozen=True, slots=True)
class RewriteTask:
    """A caption and what it leaves out."""

    SCHEMA_VERSION: ClassVar[int] = 2

    image_id: str
    caption: str
    attributes: tuple[str, ...]
    findings: tuple[Placed, ...]
    blob: str = ""  # the image, for a rewriter that sees; "" when nobody looks


@dataclass(frozen=True, slots=True)
class Span:
    """A run of words. `start` and `end` (exclusive) count words of the text it belongs to."""

    start: int
    end: int
    text: str
    grounding: tuple[str, ...]  # attributes that account for an inserted span; "image" when a model saw it there


@dataclass(frozen=True, slots=True)
class Attempt:
    """One answer of a rewriter, and the reason codes against it."""

    text: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Recaption:
    """A caption with its suppressed details restored, and the proof that little else changed."""

    SCHEMA_VERSION: ClassVar[int] = 2

    image_id: str
    caption: str
    text: str
    attributes: tuple[str, ...]  # what had to be restored
    inserted: tuple[Span, ...]  # words of `text`
    deleted: tuple[Span, ...]  # words of `caption`
    kept_ratio: float  # caption words that survive in order
    length_ratio: float
    model: str
    prompt_hash: str
    verdict: Decision | None
    reasons: tuple[str, ...]
    findings: tuple[Placed, ...] = ()  # what the rewriter was given
    attempts: tuple[Attempt, ...] = ()  # every answer of the rewriter, the last one is `text`
    generation: Generation | None = None


@dataclass(frozen=True, slots=True)
class DeltaTask:
    """The texts of a pair, to be compared with what the edit was to remove."""

    SCHEMA_VERSION: ClassVar[int] = 1

    edit_id: str
    original: str  # the original's recaption
    edited: str  # the edited image's own caption
    expected: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CaptionDelta:
    """What an edit removed according to the captions of the original and of the edited image."""

    SCHEMA_VERSION: ClassVar[int] = 1

    edit_id: str
    removed: tuple[str, ...]  # attributes that the original's text names and the edited image's does not
    added: tuple[str, ...]  # the other way round: the edit should add none
    expected: tuple[str, ...]  # what the edit was to remove
    deleted: tuple[Span, ...]  # words of the original's text
    inserted: tuple[Span, ...]  # words of the edited image's caption
    kept_ratio: float  # words of the edited image's caption that stand in the original's text in order
    verdict: Literal["agrees", "disagrees", "undecided"]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Vote:
    """One annotator's verdict on one image under one policy."""

    SCHEMA_VERSION: ClassVar[int] = 1

    image_id: str
    policy_id: str
    verdict: Verdict
    rules: tuple[str, ...]
    annotator: str
    simulated: bool
    duration_s: float
    comment: str
    project_id: int
    task_id: int
    annotation_id: int
    updated_at: str  # ISO 8601, as the server says
    boxes: tuple[tuple[int, ...], ...] = ()  # what the annotator drew around, if anything; one set per annotation


@dataclass(frozen=True, slots=True)
class EditRating:
    """One person's judgement of one edit, as said of the edited image. `original_shows` tells whether the original
    was seen to show the thing at all: without that, `gone` says little."""

    SCHEMA_VERSION: ClassVar[int] = 1

    edit_id: str
    gone: bool
    original_shows: bool
    damaged: bool
    realistic: bool
    annotator: str
    simulated: bool
    duration_s: float
    comment: str
    annotation_id: int
    updated_at: str


@dataclass(frozen=True, slots=True)
class Label:
    """One cell of the label matrix. `verdict` is None unless status is `agreed` or `adjudicated`."""

    SCHEMA_VERSION: ClassVar[int] = 1

    image_id: str
    policy_id: str
    verdict: Literal["safe", "unsafe"] | None
    status: LabelStatus
    rules: tuple[str, ...]
    votes_safe: int
    votes_unsafe: int
    votes_unsure: int
    derived: DerivedVerdict
    derived_rules: tuple[str, ...]
    rule_conflict: bool  # humans decided and the rules say the opposite
    simulated: bool  # some vote came from a scripted annotator


@dataclass(frozen=True, slots=True)
class GuardQuestion:
    """What a guard is asked: one image and one prompt. `run` numbers identical repetitions."""

    SCHEMA_VERSION: ClassVar[int] = 1

    question_id: str
    blob: str
    prompt: str
    run: int


@dataclass(frozen=True, slots=True)
class GuardAnswer:
    """What a guard answered. `problem` is empty for a valid answer, else why it is invalid."""

    SCHEMA_VERSION: ClassVar[int] = 1

    question_id: str
    text: str
    verdict: Literal["safe", "unsafe", "invalid"]
    problem: str
    refused: bool
    prompt_tokens: int
    completion_tokens: int
    latency_s: float


@dataclass(frozen=True, slots=True)
class Rejection:
    """One refused row, as quarantine keeps it."""

    SCHEMA_VERSION: ClassVar[int] = 1

    key: str  # image_id, or source_key where there is no id yet
    code: str
    detail: str
    payload_json: str  # the row itself, as far as it is known


Record = TypeVar("Record")

_SCALARS: Mapping[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
}


@functools.cache
def _hints(record: type) -> dict[str, Any]:
    """A record's field types; Python works them out anew at each call, which takes longer than reading a row."""
    return typing.get_type_hints(record)


def _arrow_type(hint: Any) -> tuple[pa.DataType, bool]:
    """The Arrow type of a field's annotation, and whether it may be null."""
    if hint in _SCALARS:
        return _SCALARS[hint], False
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _SCALARS[type(args[0])], False
    if origin is tuple:
        return pa.list_(_arrow_type(args[0])[0]), False
    if origin in (typing.Union, types.UnionType):
        (inner,) = (a for a in args if a is not type(None))
        return _arrow_type(inner)[0], True
    if dataclasses.is_dataclass(hint):
        return pa.struct(list(_fields(hint))), False
    raise TypeError(f"no Arrow type for {hint!r}")


def _fields(record: Any) -> Iterable[pa.Field]:
    hints = _hints(record)
    for field in dataclasses.fields(record):
        arrow_type, nullable = _arrow_type(hints[field.name])
        yield pa.field(field.name, arrow_type, nullable=nullable)


@functools.cache
def schema_of(record: type) -> pa.Schema:
    """The Arrow schema of a record type; its name and version ride in the metadata."""
    version = str(record.SCHEMA_VERSION)  # type: ignore[attr-defined]
    return pa.schema(_fields(record), metadata={"record": record.__name__, "schema_version": version})


_ROWS_AT_ONCE = 4096  # as plain Python values on their way from or into records


def to_table(records: Iterable[Any], record: type) -> pa.Table:
    """Records as an Arrow table, in the order given."""
    schema, rest = schema_of(record), iter(records)
    parts = []
    while chunk := [dataclasses.asdict(r) for r in itertools.islice(rest, _ROWS_AT_ONCE)]:
        parts.append(pa.Table.from_pylist(chunk, schema=schema))
    return pa.concat_tables(parts).combine_chunks() if parts else schema.empty_table()


def from_table(table: pa.Table, record: type[Record]) -> list[Record]:
    """The records of a table written by `to_table`.

    Raises TypeError when the columns are not this record's, ValueError when a value is none that its field may have.
    """
    if not table.num_rows:
        return []
    fields: list[dataclasses.Field[Any]] = list(dataclasses.fields(typing.cast(Any, record)))
    needed = {field.name for field in fields if field.default is dataclasses.MISSING}
    if not needed <= set(table.column_names) <= {field.name for field in fields}:
        raise TypeError(f"the columns of {record.__name__} are not {', '.join(table.column_names)}")
    return list(_records(table, record))


def _records(table: pa.Table, record: type[Record]) -> Iterator[Record]:
    """A few thousand rows at a time, equal strings once: a build holds many rows, and half their text is ids."""
    for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
        seen: dict[str, str] = {}
        columns = []
        for column in batch.columns:
            values = column.to_pylist()
            is_text = pa.types.is_string(column.type)
            columns.append([seen.setdefault(value, value) for value in values] if is_text else values)
        for row in zip(*columns, strict=True):
            yield from_dict(dict(zip(table.column_names, row, strict=True)), record)


def from_dict(row: Mapping[str, Any], record: type[Record]) -> Record:
    """One record from a plain mapping (an Arrow row or parsed JSON), nested records included; raises ValueError."""
    found: Record = _adapter(typing.cast(Any, record)).validate_python(row)
    return found


@functools.cache
def _adapter(record: Any) -> TypeAdapter[Any]:
    return TypeAdapter(record)


def payload(record: Any) -> str:
    """A record as one line of JSON with sorted keys, for quarantine and hashing."""
    return canonical_json(dataclasses.asdict(record))


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)


def sha256_hex(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def content_id(*parts: Any) -> str:
    """SHA-256 of the canonical JSON of `parts`: the id of something made from them."""
    return sha256_hex(canonical_json(parts).encode())
