"""The settings of the drawn world, with changes."""

from collections.abc import Mapping
from typing import Any

import yaml

from flows.settings import Settings, read_settings
from micro import FOLDER, PRESET


def preset(changes: Mapping[str, Any] | None = None) -> Settings:
    """`preset.yaml` with nested values replaced, e.g. `{"editing": {"locate": {"shard_rows": 2}}}`."""
    raw = _merged(yaml.safe_load(PRESET.read_text(encoding="utf-8")), changes or {})
    return read_settings(yaml.safe_dump(raw), str(PRESET), FOLDER)


def _merged(base: Any, changes: Any) -> Any:
    if isinstance(base, Mapping) and isinstance(changes, Mapping):
        return {**base, **{key: _merged(base.get(key), value) for key, value in changes.items()}}
    return changes
