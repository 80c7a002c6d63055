"""Around people: publish what a build made, and collect what they said. None waits for anybody.

A repeated run does what is left, and of two at one workspace the second waits.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from annotation.adjudicate import AdjudicationResult
from annotation.attributes import collect_attributes, publish_attributes
from annotation.collect import CollectResult, collect
from annotation.controls import read_controls
from annotation.opt_out import check_people, keep_from, withheld
from annotation.pair import PairItem, PairPublication, PairResult, collect_pairs, publish_pairs, published_pairs
from annotation.projects import all_projects, check_published
from annotation.publish import Publication, PublishItem, publish
from annotation.rounds import Round, RoundOptions, advance
from annotation.sampling import Candidate, doubt_of, sample
from annotation.settings import AnnotationSettings
from annotation.tasks import ProjectOptions
from flows.engine.progress import report_progress
from flows.outcome import Outcome, read_outcome
from flows.servers import studio_client
from flows.settings import Settings, settings_of
from guard.contract.splits import drawn_split
from policies.engine import PolicySet
from policies.evidence import Evidence
from policies.loading import load_policy_set
from policies.vocabulary import Vocabulary
from storage.claim import claimed
from storage.records.verdicts import Verdict
from storage.workspace import Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio


def items_of(outcome: Outcome) -> list[PublishItem]:
    """Every image that people judge: the originals that were located, and the selected edits. Nothing says which."""
    located = {row.image_id for row in outcome.located}
    originals = [PublishItem(i.image_id, i.blob, i.family_id) for i in outcome.images if i.image_id in located]
    return originals + [PublishItem(e.edited_id, e.blob, e.family_id) for e in outcome.edits]


def chosen_items(settings: AnnotationSettings, outcome: Outcome, policies: PolicySet) -> list[PublishItem]:
    """All of `items_of`, or as many as the budget allows: which ones, annotation/sampling.py says."""
    items = {item.image_id: item for item in items_of(outcome)}
    if settings.budget is None:
        return list(items.values())
    known: dict[str, dict[str, Verdict]] = defaultdict(dict)
    for (image_id, policy_id), verdict in (read_controls(settings.controls) if settings.controls else {}).items():
        known[image_id][policy_id] = verdict
    scores = {row.image_id: min((f.score for f in row.findings), default=1.0) for row in outcome.located}
    evidence = outcome.evidence(policies.vocabulary)
    candidates = []
    for item in items.values():
        shown = evidence.get(item.image_id)
        derived = {p.id: policies.derive(p, shown).verdict for p in policies}
        doubt = doubt_of(derived, scores.get(item.image_id, 1.0))
        candidates.append(Candidate(item.image_id, item.family_id, derived, doubt, known.get(item.image_id, {})))
    chosen = sample(
        candidates,
        budget=settings.budget,
        control_share=settings.control_share,
        doubtful_share=settings.doubtful_share,
        seed=settings.sample_seed,
    )
    return [items[choice.image_id] for choice in chosen]


def with_drafts(
    items: Sequence[PublishItem], settings: Settings, evidence: Mapping[str, Evidence]
) -> list[PublishItem]:
    """The items, and with those that `annotation.prefill` means what they show, from which the page derives a draft.

    Which families train is known here already: export draws it from the family's id. A control item never has a
    draft, since it is there to find out how well a person judges.
    """
    options, export = settings.annotation, settings.export
    controls = {image_id for image_id, _ in read_controls(options.controls)} if options.controls else set()

    def drafted(item: PublishItem) -> bool:
        if options.prefill == "none" or item.image_id in controls or item.image_id not in evidence:
            return False
        trains = drawn_split(item.family_id, test_ratio=export.test_ratio, seed=export.seed) == "train"
        return trains or options.prefill == "all"

    return [replace(item, draft=evidence[item.image_id]) if drafted(item) else item for item in items]


def pairs_of(outcome: Outcome, vocabulary: Vocabulary) -> list[PairItem]:
    """Every accepted edit that removed something, beside its original; `what` names the thing in words."""
    nouns = {attribute.id: attribute.noun for attribute in vocabulary.values()}
    return [
        PairItem(e.edit_id, e.original_blob, e.blob, ", ".join(nouns.get(a, a) for a in e.target_attributes))
        for e in outcome.edits
        if e.kind == "remove"
    ]


def may_show(outcome: Outcome) -> dict[str, set[str]]:
    """What somebody who opted out should be spared, by image and by edit (as a pair): what was found there. An edit
    may have failed, so its image counts as showing what its original shows too, and what was to be put in."""
    shown = {row.image_id: set(row.attributes) for row in outcome.located}
    for edit in outcome.edits:
        after = edit.certificate.attributes_after if edit.certificate else ()
        shown[edit.edited_id] = shown[edit.edit_id] = {*edit.attributes_before, *after, *edit.target_attributes}
    return shown


def _project_options(options: AnnotationSettings) -> ProjectOptions:
    return ProjectOptions(options.project, options.overlap, options.presign, options.batch_size, options.keep_reworded)


@contextmanager
def _alone(workspace: Workspace) -> Iterator[None]:
    """Wait until no other publication or collection is at work here: two that write would undo each other's."""
    with claimed(workspace.store, "annotation", "server", lambda: False):
        yield


def publish_build(settings: Settings, root: str) -> Publication:
    """Put the newest build's images before annotators; each image once, however often this runs. With
    `annotation.attributes` they are also asked what each shows."""
    workspace, options = Workspace.open(root), settings.annotation
    outcome = read_outcome(workspace)
    policies = load_policy_set(settings.policies)
    chosen = chosen_items(options, outcome, policies)
    items = with_drafts(chosen, settings, outcome.evidence(policies.vocabulary))
    client, project = studio_client(root, options), _project_options(options)
    with _alone(workspace):
        people = check_people(client, options.opt_outs, policies.vocabulary)
        done = publish(client, workspace, items, policies, project, partial(report_progress, "publish"))
        if options.attributes:
            told = partial(report_progress, "attributes")
            more = publish_attributes(client, workspace, chosen, policies, outcome.attributes, project, told)
            done = done.beside(more)
        keep = withheld(options.opt_outs, may_show(outcome))
        for one in done.projects:
            which = (one.project_key, one.tasks)
            keep_from(client, workspace, which, keep, people, progress=partial(report_progress, "opt-outs"))
    return done


def publish_build_pairs(settings: Settings, root: str) -> PairPublication:
    """Put the newest build's edits beside their originals before annotators; each pair once."""
    workspace, options = Workspace.open(root), settings.annotation
    outcome, policies = read_outcome(workspace), load_policy_set(settings.policies)
    client = studio_client(root, options)
    with _alone(workspace):
        people = check_people(client, options.opt_outs, policies.vocabulary)
        done = publish_pairs(
            client,
            workspace,
            pairs_of(outcome, policies.vocabulary),
            policies,
            _project_options(options),
            partial(report_progress, "pairs"),
        )
        keep_from(
            client, workspace, (done.project_key, done.tasks), withheld(options.opt_outs, may_show(outcome)), people
        )
    return done


@dataclass(frozen=True)
class Collection:
    """What was collected, and what was asked of further people because of it. `pairs` is None when no pairs were
    ever published."""

    result: CollectResult
    round: Round
    pairs: PairResult | None


def has_published(root: str, settings: Settings | None) -> bool:
    """Whether images were ever put before annotators; without settings by those that the workspace was built with."""
    workspace = Workspace.open(root)
    known = settings or settings_of(workspace)
    return known is not None and bool(all_projects(workspace, load_policy_set(known.policies)))


def collect_votes(settings: Settings, root: str, *, full: bool = False) -> Collection:
    """Fetch the votes given so far, and ask a third person or a judge where people disagree."""
    workspace, options = Workspace.open(root), settings.annotation
    policies = load_policy_set(settings.policies)
    check_published(workspace, policies)  # before a server is started, which takes a minute
    client = studio_client(root, options)
    reconcile_every = 1 if full else options.reconcile_every
    with _alone(workspace):
        result = collect(
            client,
            workspace,
            policies,
            progress=partial(report_progress, "collect"),
            reconcile_every=reconcile_every,
            min_duration_s=options.min_duration_s,
            keep_reworded=options.keep_reworded,
        )
        outcome = read_outcome(workspace)
        step = advance(
            client,
            workspace,
            policies,
            [item.image_id for item in items_of(outcome)],
            outcome.evidence(policies.vocabulary),
            RoundOptions(_project_options(options), options.min_votes, options.max_overlap, reconcile_every),
        )
        _keep_from_judges(client, workspace, options, outcome, step.adjudication, policies.vocabulary)
        rated = bool(published_pairs(workspace))
        pairs = collect_pairs(client, workspace, reconcile_every=reconcile_every) if rated else None
        collect_attributes(
            client,
            workspace,
            policies.vocabulary,
            reconcile_every=reconcile_every,
            min_duration_s=options.min_duration_s,
        )
        return Collection(result, step, pairs)


def _keep_from_judges(
    client: "LabelStudio",
    workspace: Workspace,
    options: AnnotationSettings,
    outcome: Outcome,
    sent: AdjudicationResult,
    vocabulary: Vocabulary,
) -> None:
    """Opting out holds for disputed images too; a task of theirs is named by its number."""
    if not sent.images or not options.opt_outs:
        return
    shown = may_show(outcome)
    by_task = {str(task_id): shown.get(image_id, set()) for task_id, image_id in sent.images.items()}
    tasks = {name: int(name) for name in by_task}
    people = check_people(client, options.opt_outs, vocabulary)
    keep_from(client, workspace, (sent.project_key, tasks), withheld(options.opt_outs, by_task), people)
