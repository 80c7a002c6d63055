"""Opting out: who asked not to see a kind of thing is not given the images that are known to show it.

The free edition assigns no tasks and hides none, but its queue never gives a person a task that this person has
skipped. So every such image is skipped in the person's name, one by one, and it goes to the others. What this cannot
do: an image on which the thing was not found is given like any other (Skip remains), and whoever browses the project's
table instead of labelling from the queue can open everything, blurred.
"""

import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from annotation.client import create_once, plain_errors
from annotation.reading import user_emails
from policies.vocabulary import Vocabulary
from storage.errors import FatalError
from storage.workspace import Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

Progress = Callable[[int, int], None]
OptOuts = Mapping[str, Collection[str]]  # e-mail -> attributes that this person does not want to see

_NAMESPACE = uuid.UUID("0b9c8a52-5f0e-5d55-9a53-3d1f0ce3a7b4")


def withheld(opt_outs: OptOuts, shown: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """The keys of `shown` (an image or a pair, and the attributes it shows) to keep from each person, sorted."""
    return {
        email: sorted(key for key, attributes in shown.items() if not set(attributes).isdisjoint(unwanted))
        for email, unwanted in sorted(opt_outs.items())
    }


def check_attributes(opt_outs: OptOuts, vocabulary: Vocabulary) -> None:
    """Raises FatalError for an attribute that the vocabulary does not have."""
    foreign = sorted({name for names in opt_outs.values() for name in names} - vocabulary.keys())
    if foreign:
        raise FatalError(f"annotation.opt_outs names {foreign[0]!r}, which the vocabulary does not have.")


def check_people(client: "LabelStudio", opt_outs: OptOuts, vocabulary: Vocabulary) -> dict[str, int]:
    """The user id of everybody who opted out.

    Raises FatalError for an attribute that the vocabulary does not have, and when somebody has no account yet: nothing
    can be kept from a person whom the server does not know, so this must be asked before images are published.
    """
    if not opt_outs:
        return {}
    check_attributes(opt_outs, vocabulary)
    with plain_errors("looking up users"):
        known = {email: user_id for user_id, email in user_emails(client).items()}
    unknown = sorted(set(opt_outs) - set(known))
    if unknown:
        raise FatalError(
            f"annotation.opt_outs names {', '.join(unknown)}, who has no account on the server. Let that person sign "
            "up first, or correct the address; images are published only when they can be kept from everybody who "
            "asked."
        )
    return {email: known[email] for email in opt_outs}


def keep_from(
    client: "LabelStudio",
    workspace: Workspace,
    project: tuple[str, Mapping[str, int]],
    keep: Mapping[str, Iterable[str]],
    people: Mapping[str, int],
    *,
    progress: Progress | None = None,
) -> int:
    """Skip tasks in people's names; the answer counts the skips made now. Safe to repeat after any failure.

    `project` is its key and its tasks (task id by image or pair), `keep` what to keep from whom, as `withheld` says,
    `people` the user ids. Nothing is taken back: who wants to see such images again deletes the own skips.
    """
    key, tasks = project
    file = f"annotation/{key}/withheld.json"
    done: dict[str, list[int]] = workspace.read_json(file) or {}
    wanted = [
        (email, task_id)
        for email, names in keep.items()
        for task_id in sorted({tasks[name] for name in names if name in tasks} - set(done.get(email, ())))
    ]
    for number, (email, task_id) in enumerate(wanted, start=1):
        create_once(
            client,
            task_id,
            str(uuid.uuid5(_NAMESPACE, f"{key}/{task_id}/{email}")),
            "keeping an image from somebody who opted out",
            result=[],
            was_cancelled=True,
            completed_by=people[email],
        )
        if progress:
            progress(number, len(wanted))
    for email, task_id in wanted:
        done[email] = sorted({*done.get(email, ()), task_id})
    if wanted:
        workspace.write_json(file, done)
    return len(wanted)
