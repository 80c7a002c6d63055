"""One step forward after collecting: a third person where two did not suffice, a judge where three did not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from annotation.adjudicate import (
    AdjudicationResult,
    adjudications,
    collect_adjudications,
    is_adjudicating,
    publish_adjudications,
)
from annotation.agreement import labels
from annotation.collect import collected_votes
from annotation.overlap import OverlapResult, raise_overlap
from policies.engine import Policy
from storage.records import Label, Vote
from storage.workspace import Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio


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
    policies: Sequence[Policy],
    image_ids: Sequence[str],
    attributes_by_image: Mapping[str, Sequence[str]],
    *,
    name: str,
    min_votes: int = 2,
    max_overlap: int = 3,
    presign: bool = False,
    reconcile_every: int = 1,
) -> Round:
    """Fetch what judges decided, ask for `max_overlap` people on doubtful images, and put to a judge what that many
    voted on and still disagree about. Works on the votes that the last `collect` stored; safe to repeat.

    Arguments as in `annotation.agreement.labels`, `annotation.publish.publish` and `annotation.collect.collect`;
    raises as these do.
    """
    votes = collected_votes(workspace, policies)
    if is_adjudicating(workspace, policies):
        collect_adjudications(client, workspace, policies, reconcile_every=reconcile_every)
    rulings = adjudications(workspace, policies)
    matrix = labels(image_ids, policies, votes, attributes_by_image, min_votes=min_votes, adjudications=rulings)
    overlap = raise_overlap(client, workspace, policies, matrix, to=max_overlap)
    sent = publish_adjudications(
        client,
        workspace,
        policies,
        matrix,
        votes,
        name=name,
        min_votes=max_overlap,
        presign=presign,
    )
    return Round(overlap, sent, rulings, matrix)
