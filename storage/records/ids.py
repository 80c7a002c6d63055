"""Ids are content hashes (lower-case hex SHA-256), so the same work has the same id on every machine."""

import dataclasses
import hashlib
import json
from typing import Any


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
