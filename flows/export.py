"""The export flow: what a build made and people agreed on, as Parquet that trains."""

from prefect import flow

from annotation.agreement import agreement, labels
from annotation.collect import collected_votes
from annotation.config import project_key
from flows.annotate import items_of
from flows.outcome import read_outcome
from flows.settings import Settings
from guard.dataset import Dataset, StageCount, assemble
from guard.export import ExportResult, export
from policies.engine import load_policies
from storage.workspace import Workspace


def dataset_of(settings: Settings, workspace: Workspace) -> Dataset:
    """Everything the newest build and its votes say, ready to be written."""
    outcome = read_outcome(workspace)
    policies = load_policies(settings.policies)
    is_published = workspace.store.exists(f"annotation/{project_key(policies)}/project.json")
    votes = collected_votes(workspace, policies) if is_published else []  # without votes the captions still train
    ids = [item.image_id for item in items_of(outcome)]
    matrix = labels(ids, policies, votes, outcome.attributes, min_votes=settings.annotation.min_votes)
    stages = [StageCount(s["name"], s["rows_in"], s["rows_out"], s["rejected"]) for s in outcome.record["stages"]]
    return assemble(
        outcome.images,
        outcome.edits,
        outcome.recaptions,
        matrix,
        policies,
        agreement=agreement(votes),
        stages=stages,
        rejections=outcome.rejections,
        candidates=outcome.candidates,
    )


@flow(name="guardset-export")
def export_flow(settings: Settings, root: str, version: str | None = None) -> ExportResult:
    """Write the export; the same content has the same folder, so a repeated run writes nothing."""
    workspace = Workspace.open(root)
    options = settings.export
    return export(
        dataset_of(settings, workspace),
        workspace,
        name=options.name,
        version=version,
        test_ratio=options.test_ratio,
        seed=options.seed,
        max_report_pairs=options.max_report_pairs,
    )
