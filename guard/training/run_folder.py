"""A training run's folder: what was asked, checkpoints, metrics.csv, report.html, and in the end the trained model.

run.json        what decides the result; a folder serves one such plan
checkpoints/    checkpoint-<step>, the newest few
metrics.csv     a line per logged step
report.html     settings and curves
model/          the trained network; there only when the run is finished
"""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from storage.errors import FatalError
from storage.records.ids import content_id

FOLLOWS = ("data", "model", "labels")  # not compared: what lies in these places is in the plan by its hash


def open_run(out: Path, plan: Mapping[str, Any]) -> bool:
    """Start or go on with the run of this plan in `out`; the answer says whether it is finished already.

    Raises FatalError when the folder holds a run of another plan, or something that is no run.
    """
    path, fingerprint = out / "run.json", content_id({k: v for k, v in plan.items() if k not in FOLLOWS})
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        if known["fingerprint"] != fingerprint:
            changed = [key for key in plan if key not in FOLLOWS and known["plan"].get(key) != plan[key]]
            raise FatalError(
                f"{out} holds a run that differs in {', '.join(changed)}. It is left as it is; choose another --out."
            )
        return (out / "model").exists()
    if out.exists() and any(out.iterdir()):
        raise FatalError(f"{out} is not empty and no training run. Choose another --out.")
    out.mkdir(parents=True, exist_ok=True)
    partial = out / "run.json.part"
    partial.write_text(json.dumps({"fingerprint": fingerprint, "plan": plan}, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
    return False


def last_checkpoint(out: Path) -> Path | None:
    """The newest checkpoint that is whole. One that a kill cut short is deleted: its state file is written last."""
    whole = []
    for folder in (out / "checkpoints").glob("checkpoint-*"):
        if not re.fullmatch(r"checkpoint-\d+", folder.name):
            continue
        try:
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
            whole.append(folder)
        except (OSError, ValueError):
            shutil.rmtree(folder)
    return max(whole, key=lambda folder: int(folder.name.split("-")[1]), default=None)
