"""Safe originals that an edit makes unsafe, so that not every edited image is the safer side of its pair.

An **insertion** puts a forbidden thing in. It is off unless `editing.controls.insert` names what may be drawn: harmless
objects that the vocabulary marks `drawable`. No image gets one where somebody under age may be visible, and whoever
nobody looked for counts as visible. A **lost excuse** is a removal: what a rule's exception needs goes, such as the
museum label, and what it excused stays.
"""

import random
from collections.abc import Sequence
from dataclasses import replace

from editing.controls import ControlSettings, draw_for, free_box
from editing.edit import task_of, worded
from policies.conditions import counted
from policies.engine import Policy, PolicySet, regulated
from policies.evidence import Evidence
from policies.people import DRAWABLE, is_drawable
from policies.vocabulary import Vocabulary
from storage.errors import FatalError
from storage.records.editing import EditTask, Finding, Located
from storage.records.ids import content_id
from storage.records.images import Image

_SIDE = 0.3  # of the picture's shorter side: room for an object and what lies around it


def check_insertions(names: Sequence[str], targets: Sequence[Policy], vocabulary: Vocabulary) -> None:
    """Raises FatalError for an attribute that is not to be drawn, or that no target policy forbids, and where the
    vocabulary has no word by which somebody under age would be found."""
    forbidden = regulated(targets, vocabulary)
    for name in names:
        if name not in vocabulary:
            raise FatalError(f"editing.controls.insert names {name}, which the vocabulary does not have.")
        if not vocabulary[name].drawable:
            raise FatalError(
                f"editing.controls.insert names {name}, which vocabulary.yaml does not mark `drawable: true`. Only "
                "harmless objects are; nudity, sexual content, injuries and people are never drawn."
            )
        if not is_drawable(vocabulary[name].noun):
            raise FatalError(
                f"editing.controls.insert names {name}, and {vocabulary[name].noun!r} is none of the objects that are "
                f"drawn: {', '.join(sorted(DRAWABLE))}."
            )
        if name not in forbidden:
            raise FatalError(f"editing.controls.insert names {name}, which no target policy forbids.")
    if names and not vocabulary.perhaps_minors:
        raise FatalError(
            "editing.controls.insert: the vocabulary has no word for a child, so nobody looks for one. Add "
            "{id: child, noun: child, sensitive: false, minor: true}: nothing is drawn where one may be visible."
        )


def plan_insertions(
    images: Sequence[Image],
    located: Sequence[Located],
    targets: Sequence[Policy],
    vocabulary: Vocabulary,
    settings: ControlSettings,
) -> list[EditTask]:
    """One task for each chosen image that is safe and that a thing of `settings.insert` makes unsafe, in their order.

    An image is chosen by a hash of its id, and so are the thing and its place, away from whatever was found. Raises
    FatalError as `check_insertions` does.
    """
    check_insertions(settings.insert, targets, vocabulary)
    found, policies = {row.image_id: row for row in located}, PolicySet(vocabulary, tuple(targets))
    tasks = []
    for image in images if settings.insert else ():
        row, draw = found.get(image.image_id), draw_for("insert", image.image_id, settings.seed)
        if row is None or draw.random() >= settings.insert_share or not _is_plainly_safe(row, policies):
            continue
        wanted = [name for name in settings.insert if _breaks_a_rule(row, name, policies)]
        box = _free_place(draw, row, image) if wanted else None
        if box is not None:
            tasks.append(_insertion(image, row, draw.choice(wanted), box, vocabulary))
    return tasks


def _is_plainly_safe(row: Located, policies: PolicySet) -> bool:
    """Whether nothing is there that is forbidden, or is or may be somebody under age; what the vocabulary does not have
    may be."""
    vocabulary = policies.vocabulary
    forbidden = frozenset[str]().union(*(vocabulary.general(name) for name in regulated(policies, vocabulary)))
    return not row.set_aside and (forbidden | vocabulary.perhaps_minors).isdisjoint(row.attributes)


def _breaks_a_rule(row: Located, name: str, policies: PolicySet) -> bool:
    """Whether some policy's verdict turns from safe to unsafe."""
    return any(
        policies.derive(policy, row.attributes).verdict == "safe"
        and policies.derive(policy, {*row.attributes, name}).verdict == "unsafe"
        for policy in policies
    )


def _free_place(draw: random.Random, row: Located, image: Image) -> tuple[int, int, int, int] | None:
    side = round(_SIDE * min(image.width, image.height))
    taken = [finding.box for finding in row.findings]
    return free_box(draw, (0, 0, side, side), taken, (image.width, image.height)) if side else None


def _insertion(
    image: Image, row: Located, name: str, box: tuple[int, int, int, int], vocabulary: Vocabulary
) -> EditTask:
    thing = counted(vocabulary[name], 1)
    place = Finding(content_id("insert", image.image_id, name, box), (name,), (), box, "", f"Add {thing}.", 1.0)
    return replace(task_of(image, row, (place,)), kind="insert", prompt=thing)


def losing_excuses(
    removals: Sequence[EditTask],
    located: Sequence[Located],
    targets: Sequence[Policy],
    vocabulary: Vocabulary,
    settings: ControlSettings,
) -> list[EditTask]:
    """The removals, where each chosen image that is safe by an exception loses the excuse instead."""
    found, policies = {row.image_id: row for row in located}, PolicySet(vocabulary, tuple(targets))
    return [
        _without_excuse(task, found[task.image_id], policies)
        if draw_for("excuse", task.image_id, settings.seed).random() < settings.excuse_share
        else task
        for task in removals
    ]


def _without_excuse(task: EditTask, row: Located, policies: PolicySet) -> EditTask:
    """The removal of what makes an image safe under every policy; the task as it is where that is no single thing."""
    vocabulary = policies.vocabulary
    seen = Evidence.located(vocabulary, ((a, f.box, f.score) for f in row.findings for a in f.attributes))
    if any(policies.derive(policy, seen).verdict != "safe" for policy in policies):
        return task
    for name in sorted(seen.things.keys() - regulated(policies, vocabulary) - vocabulary.perhaps_minors):
        without = replace(seen, things={other: things for other, things in seen.things.items() if other != name})
        if any(policies.derive(policy, without).verdict == "unsafe" for policy in policies):
            excuses = (replace(f, instruction="") for f in row.findings if f.attributes == (name,))
            targets = tuple(worded(excuse, vocabulary) for excuse in excuses)
            return replace(task, targets=targets) if targets else task
    return task
