"""Config files for commands: the drawn world's preset with changes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from micro.preset import preset


def write_config(path: Path, changes: Mapping[str, Any] | None = None) -> Path:
    """`preset(changes)` as a file that may stand anywhere: its paths are absolute."""
    values = preset(changes).model_dump(mode="json", exclude_unset=True)
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path
