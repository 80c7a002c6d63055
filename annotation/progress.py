"""How far each project is, as the workspace knows it from the last collect; nothing here asks the server."""

from annotation.adjudicate import adjudication_key
from annotation.attributes import attribute_projects
from annotation.pair import edit_ratings, pair_key, published_pairs
from annotation.projects import Project, asking
from annotation.rulings import adjudication_cells
from annotation.summary import ProjectProgress, answered_by
from annotation.vote_store import read_state, rejections, votes_of, votes_table
from policies.engine import PolicySet
from storage.workspace import Workspace


def project_progress(
    workspace: Workspace, policies: PolicySet, *, overlap: int = 2, keep_reworded: bool = False
) -> list[ProjectProgress]:
    """A row for each project whose answers count now: verdicts, the oldest first, then adjudication, pairs, attributes.

    An image or a pair is done when `overlap` people have answered it, a disputed cell when a judge has decided it.
    """
    projects = asking(workspace, policies, keep_reworded=keep_reworded)
    found = [_verdicts(workspace, project, overlap) for project in projects]
    if cells := adjudication_cells(workspace, policies):
        found.append(_adjudication(workspace, policies, cells))
    if pairs := published_pairs(workspace):
        found.append(_pairs(workspace, len(pairs), overlap))
    found += [_verdicts(workspace, project, overlap) for project in attribute_projects(workspace)]
    return found


def _verdicts(workspace: Workspace, project: Project, overlap: int) -> ProjectProgress:
    """A project in which an image is judged as a whole: its verdicts, or what it shows."""
    is_verdicts = project.kind == "verdict"
    votes = votes_of(votes_table(workspace, project.project_key, project.policies))
    return ProjectProgress(
        kind="verdicts" if is_verdicts else "attributes",
        items=len(project.tasks),
        done=answered_by(votes, overlap),
        answers=len({vote.annotation_id for vote in votes}),
        skipped=len(read_state(workspace, project.project_key).skipped),
        refused=len(rejections(workspace, project.project_key)),
        policies=tuple(project.policies) if is_verdicts else (),
    )


def _adjudication(workspace: Workspace, policies: PolicySet, cells: int) -> ProjectProgress:
    key = adjudication_key(policies)
    rulings = votes_of(votes_table(workspace, key))
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
