"""What a workspace holds and how far its annotation is."""

from collections import Counter

from rich.table import Table

from flows.export import dataset_of
from flows.outcome import read_outcome
from flows.progress import StageSummary, summary_table
from flows.settings import Settings
from storage.workspace import Workspace


def describe(settings: Settings, root: str) -> list[Table | str]:
    """The newest build by stage, the label matrix by policy and status, and agreement."""
    workspace = Workspace.open(root)
    outcome = read_outcome(workspace)
    dataset = dataset_of(settings, workspace)
    stages = [StageSummary(**{**stage, "looked_up": 0}) for stage in outcome.record["stages"]]
    matrix = Table(title="Labels", title_justify="left")
    for heading in ("policy", "safe", "unsafe", "conflict", "missing", "items", "raw", "kappa", "alpha"):
        matrix.add_column(heading, justify="right" if heading != "policy" else "left")
    measured = {row.policy_id: row for row in dataset.agreement}
    for policy in dataset.policies:
        cells = [label for label in dataset.labels if label.policy_id == policy.id]
        counts = Counter(label.verdict or label.status for label in cells)
        row = measured.get(policy.id)
        figures = [row.raw, row.kappa, row.alpha] if row else [None] * 3
        matrix.add_row(
            policy.id,
            *(str(counts[name]) for name in ("safe", "unsafe", "conflict", "missing")),
            str(row.n_items if row else 0),
            *("-" if value is None else f"{value:.2f}" for value in figures),
        )
    notes = ["Some of these votes are simulated."] if dataset.simulated else []
    return [f"Build {outcome.build_id} in {root}", summary_table(stages), matrix, *notes]
