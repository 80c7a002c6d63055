"""A row that was refused."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Rejection:
    """One refused row, as quarantine keeps it."""

    SCHEMA_VERSION: ClassVar[int] = 1

    key: str  # image_id, or source_key where there is no id yet
    code: str
    detail: str
    payload_json: str  # the row itself, as far as it is known
