"""What became of the votes when policies changed: which still count, which do not, and what nobody was asked yet."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from annotation.projects import all_projects, counting
from annotation.vote_store import votes_table
from policies.engine import PolicySet
from storage.records.annotation import Vote
from storage.workspace import Workspace


@dataclass(frozen=True, slots=True)
class StandingVotes:
    """The votes that count under one policy. `earlier` of them were given on a page with other policies than today's,
    `reworded` under other words. `unasked` are images that nobody was asked about under this policy; where the policy
    calls everything safe, nobody will be (`never_asked`)."""

    policy_id: str
    votes: int
    earlier: int
    reworded: int
    unasked: int
    never_asked: bool


@dataclass(frozen=True, slots=True)
class UnusedVotes:
    """Votes that are kept and do not count: no policy has that id and content now."""

    policy_id: str
    content_hash: str
    votes: int
    images: int


def standing_votes(
    workspace: Workspace, policies: PolicySet, image_ids: Sequence[str], *, keep_reworded: bool = False
) -> list[StandingVotes]:
    """A row per policy, in the policies' order; `image_ids` are the images of the present build."""
    projects = all_projects(workspace, policies)
    counts = counting(projects, policies, keep_reworded=keep_reworded)
    hashes = {policy.id: policy.content_hash for policy in policies}
    given: Counter[str] = Counter()
    earlier: Counter[str] = Counter()
    reworded: Counter[str] = Counter()
    asked: dict[str, set[str]] = {policy.id: set() for policy in policies}
    for project in projects:
        table = votes_table(workspace, project.project_key, project.policies)
        stored = Counter(table["policy_id"].to_pylist())
        for policy_id in project.asks(counts):
            votes = stored[policy_id]
            given[policy_id] += votes
            earlier[policy_id] += votes * (dict(project.policies) != hashes)
            reworded[policy_id] += votes * (project.policies[policy_id] != hashes[policy_id])
            asked[policy_id] |= set() if project.gone else project.tasks.keys()
    return [
        StandingVotes(
            name := policy.id,
            given[name],
            earlier[name],
            reworded[name],
            len(set(image_ids) - asked[name]),
            policy.asks_nothing,
        )
        for policy in policies
    ]


def unused_rows(votes: Iterable[Vote]) -> list[UnusedVotes]:
    """A row per policy that nobody has any more, by id and hash."""
    some: dict[tuple[str, str], list[Vote]] = {}
    for vote in votes:
        some.setdefault((vote.policy_id, vote.policy_hash), []).append(vote)
    return [UnusedVotes(*key, len(some[key]), len({v.image_id for v in some[key]})) for key in sorted(some)]
