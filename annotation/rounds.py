"""One step forward after collecting: a third person where two did not suffice, a judge where three did not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from annotation.adjudicate import AdjudicationResult, disputed, publish_adjudications
from annotation.agreement import labels
from annotation.collect import collected_votes
from annotation.overlap import OverlapResult, raise_overlap
from annotation.rulings import adjudications, collect_adjudications, is_adjudicating
from annotation.tasks import ProjectOptions
from policies.engine import PolicySet
from policies.evidence import Shown
from storage.records.annotation import Label, Vote
from storage.workspace import Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio


@dataclass(frozen=True, slots=True)
class RoundOptions:
    """`project` as for publishing. `min_votes` equal votes make a label, up to `max_overlap` people are asked before a
    judge is, and every `reconcile_every`-th run reads all rulings."""

    project: ProjectOptions
    min_votes: int = 2
    max_overlap: int = 3
    reconcile_every: int = 1


@dataclass(frozen=True, slots=True)
class Round:
    """What a step did, and the label matrix as it stands after it. `rulings` are all decisions of judges so far."""

    overlap: OverlapResult
    adjudication: AdjudicationResult
    rulings: list[Vote]
    labels: list[Label]


def advance(
    client: "LabelStudio",
    workspace: Workspace,
    policies: PolicySet,
    image_ids: Sequence[str],
    evidence: Mapping[str, Shown],
    options: RoundOptions,
) -> Round:
    """Fetch what judges decided, ask for `max_overlap` people on doubtful images, and put to a judge what that many
    voted on and still disagree about. Works on the votes that the last `collect` stored; safe to repeat.

    `evidence` as in `annotation.agreement.labels`; raises as publishing and collecting do.
    """
    keep = options.project.keep_reworded
    votes = collected_votes(workspace, policies, keep_reworded=keep)
    if is_adjudicating(workspace, policies):
        collect_adjudications(client, workspace, policies, reconcile_every=options.reconcile_every)
    rulings = adjudications(workspace, policies, keep_reworded=keep)
    matrix = labels(image_ids, policies, votes, evidence, min_votes=options.min_votes, adjudications=rulings)
    overlap = raise_overlap(client, workspace, policies, matrix, to=options.max_overlap, keep_reworded=keep)
    cells = disputed(matrix, min_votes=options.max_overlap)
    sent = publish_adjudications(client, workspace, policies, cells, votes, options.project)
    return Round(overlap, sent, rulings, matrix)
