"""The record of a finished build, `builds/<build_id>.json`, and which one is the newest."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from flows.engine.cost import build_cost
from flows.engine.progress import StageSummary
from storage.errors import FatalError
from storage.records.ids import content_id
from storage.workspace import Workspace

LATEST = "builds/latest.json"


@dataclass(frozen=True)
class Made:
    """What stages made: by stage the tables' names in order, and the unit of each shard's first row with its rows."""

    tables: Mapping[str, Sequence[str]]
    cut: Mapping[str, Sequence[Sequence[Any]]]
    stages: Sequence[StageSummary]


def write_record(
    workspace: Workspace,
    made: Made,
    *,
    settings: Mapping[str, Any],
    source: str,
    policies: Mapping[str, str],
    decided: Mapping[str, str],
    pairs: int,
) -> str:
    """Write `builds/<build_id>.json` and point `builds/latest.json` at it; the answer is the build's id. `source`
    names what was read, `policies` maps ids to content hashes, `decided` says what decided each stage, `pairs` counts
    the accepted ones.

    The id hashes what was made, whose fingerprints hold the settings that mattered, and the prices. So a repeated
    build finds its record there and leaves it alone, with the seconds of the run that did the work. A damaged one is
    written anew.
    """
    priced = [settings["prices"]] if settings["prices"] else []
    build_id = content_id(policies, decided, made.tables, *priced)[:16]
    key = f"builds/{build_id}.json"
    if _undamaged(workspace, key) is None:
        record = {
            "build_id": build_id,
            "settings": settings,
            "policies": policies,
            "decided": decided,  # by stage, to tell whether other settings decide otherwise
            "versions": {name: version(name) for name in ("guardset", "torch", "diffusers", "transformers")},
            "tables": made.tables,
            "cut": made.cut,
            "stages": [_stage_record(summary) for summary in made.stages],
            "cost": asdict(build_cost(made.stages, pairs)),
        }
        workspace.write_json(key, record)
    workspace.write_json(LATEST, {"build_id": build_id, "source": source})
    return build_id


def cut_before(workspace: Workspace) -> dict[str, dict[str, int]]:
    """By stage, the rows of each shard of the last build, by the unit of its first row; nothing where its record is
    damaged, which the next build replaces."""
    latest = _undamaged(workspace, LATEST) or {}
    record = _undamaged(workspace, f"builds/{latest.get('build_id')}.json") or {}
    sizes: dict[str, list[tuple[str, int]]] = record.get("cut", {})
    return {name: dict(shards) for name, shards in sizes.items()}


def newest_record(workspace: Workspace) -> dict[str, Any] | None:
    """What the newest build of a workspace used and made; None where none was finished, or its record is gone."""
    latest = workspace.read_json(LATEST)
    return workspace.read_json(f"builds/{latest.get('build_id')}.json") if latest else None


def _undamaged(workspace: Workspace, key: str) -> dict[str, Any] | None:
    """A record, or None where there is none that can be believed."""
    try:
        return workspace.read_json(key)
    except FatalError:
        return None


def _stage_record(summary: StageSummary) -> dict[str, Any]:
    times = ("seconds", "work_seconds", "busy_s", "idle_s")
    return {name: round(value, 2) if name in times else value for name, value in asdict(summary).items()}
