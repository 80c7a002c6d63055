"""An export: what a build made and people agreed on, as Parquet that trains."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from annotation.agreement import agreement
from flows.engine.progress import StageSummary
from flows.labels import annotation_summary, labelled
from flows.outcome import Outcome, read_outcome
from flows.pipeline import STAGES
from flows.published import published_records
from flows.settings import Settings
from guard.export.confirmed import Confirmed
from guard.export.dataset import Dataset, Records, StageCount, assemble
from guard.export.write import ExportResult, export, report
from policies.loading import load_policy_set
from storage.open_store import open_store
from storage.workspace import Workspace

LATEST_EXPORT = "exports/latest.json"


def dataset_of(
    settings: Settings,
    workspace: Workspace,
    published: Sequence[str] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> Dataset:
    """Everything the newest build and its votes say, ready to be written; with the labels of `published` sets in the
    place of votes where some are named."""
    if published:
        vocabulary = load_policy_set(settings.policies).vocabulary
        return assemble(published_records(read_outcome(workspace), vocabulary, published, tell))
    outcome = read_outcome(workspace)
    found = labelled(settings, workspace, outcome)
    policies = found.policies
    says = {stage.name: stage.says for stage in STAGES}
    stages = [
        StageCount(s["name"], s["rows_in"], s["rows_out"], s["rejected"], says.get(s["name"], ""))
        for s in outcome.record["stages"]
    ]
    return assemble(
        Records(
            outcome.images,
            outcome.edits,
            outcome.recaptions,
            found.matrix,
            policies,
            agreement=agreement(found.votes, found.prefilled),
            stages=stages,
            rejections=outcome.rejections,
            candidates=outcome.candidates,
            attributes=outcome.attributes,
            evidence=outcome.evidence(policies.vocabulary),
            deltas=outcome.deltas,
            prefilled=found.prefilled,
            reworded=found.reworded,
            confirmed=Confirmed(found.confirmed.evidence, found.confirmed.agreement, found.confirmed.simulated),
            minors=found.confirmed.minors,
        )
    )


def write_export(
    settings: Settings,
    root: str,
    version: str | None = None,
    to: str | None = None,
    tell: Callable[[str], None] = lambda line: None,
    published: Sequence[str] = (),
) -> ExportResult:
    """Write the export into the workspace or below `to`; a repeated run with the same content writes nothing. `tell`
    hears how large its pictures are before they are written. `published` are sets whose labels stand in for votes."""
    workspace = Workspace.open(root)
    target = open_store(to) if to else None
    previous = None if target else _version_before(workspace, settings.export.name, version)
    data = dataset_of(settings, workspace, published, tell)
    result = export(data, workspace, settings.export, version=version, target=target, previous=previous, tell=tell)
    if target is None:
        workspace.write_json(LATEST_EXPORT, {"name": settings.export.name, "version": result.version})
    return result


def _version_before(workspace: Workspace, name: str, version: str | None) -> str | None:
    """The place of the newest export of this name, if there is one of another version."""
    latest = workspace.read_json(LATEST_EXPORT) or {}
    if latest.get("name") != name or latest.get("version") == version:
        return None
    return f"{workspace.store.root}/exports/{name}/{latest['version']}"


def write_report(settings: Settings, root: str, output: Path) -> None:
    """Write the report of what a workspace holds so far to a local file, with the progress of people and the bill."""
    workspace = Workspace.open(root)
    outcome = read_outcome(workspace)
    people = annotation_summary(settings, workspace, outcome, labelled(settings, workspace, outcome))
    work = {
        "projects": [asdict(row) for row in people.projects],
        "cost": _bill(outcome),
        "minutes": sum(row.minutes for row in people.annotators),
    }
    page = report(dataset_of(settings, workspace), workspace.blobs, settings.export, work)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page, encoding="utf-8")


def _bill(outcome: Outcome) -> dict[str, Any] | None:
    """The build's cost with that of each stage and row; None for a build that recorded none."""
    bill: dict[str, Any] | None = outcome.record.get("cost")
    if bill is None:
        return None
    stages = [StageSummary(**{**stage, "looked_up": 0}) for stage in outcome.record["stages"]]
    return bill | {"stages": [{**asdict(stage), "cost_per_row": stage.cost_per_row} for stage in stages]}
