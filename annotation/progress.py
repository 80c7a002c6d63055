"""How far each project is, as the workspace knows it from the last collect; nothing here asks the server."""

from annotation.adjudicate import adjudication_cells, adjudication_key, adjudications
from annotation.collect import collected_votes
from annotation.pair import edit_ratings, pair_key, published_pairs
from annotation.publish import is_published, published
from annotation.summary import ProjectProgress, answered_by
from annotation.vote_store import read_state, rejections
from policies.engine import PolicySet
from storage.workspace import Workspace


def project_progress(workspace: Workspace, policies: PolicySet, *, overlap: int = 2) -> list[ProjectProgress]:
    """A row for each project there is: verdicts, then adjudication, then pairs.

    An image or a pair is done when `overlap` people have answered it, a disputed cell when a judge has decided it.
    """
    found = []
    if is_published(workspace, policies):
        found.append(_verdicts(workspace, policies, overlap))
    if cells := adjudication_cells(workspace, policies):
        found.append(_adjudication(workspace, policies, cells))
    if pairs := published_pairs(workspace):
        found.append(_pairs(workspace, len(pairs), overlap))
    return found


def _verdicts(workspace: Workspace, policies: PolicySet, overlap: int) -> ProjectProgress:
    project = published(workspace, policies)
    votes = collected_votes(workspace, policies)
    return ProjectProgress(
        kind="verdicts",
        items=len(project.tasks),
        done=answered_by(votes, overlap),
        answers=len({vote.annotation_id for vote in votes}),
        skipped=len(read_state(workspace, project.project_key).skipped),
        refused=len(rejections(workspace, project.project_key)),
    )


def _adjudication(workspace: Workspace, policies: PolicySet, cells: int) -> ProjectProgress:
    rulings = adjudications(workspace, policies)
    key = adjudication_key(policies)
    return ProjectProgress(
        kind="adjudication",
        items=cells,
        done=len({(ruling.image_id, ruling.policy_id) for ruling in rulings}),
        answers=len({ruling.annotation_id for ruling in rulings}),
        skipped=len(read_state(workspace, key).skipped),
        refused=len(rejections(workspace, key)),
    )


def _pairs(workspace: Workspace, pairs: int, overlap: int) -> ProjectProgress:
    ratings = edit_ratings(workspace)
    people = [{r.annotator for r in ratings if r.edit_id == edit_id} for edit_id in {r.edit_id for r in ratings}]
    return ProjectProgress(
        kind="pairs",
        items=pairs,
        done=sum(len(names) >= overlap for names in people),
        answers=len(ratings),
        skipped=len(read_state(workspace, pair_key()).skipped),
        refused=len(rejections(workspace, pair_key())),
    )
