"""The pair project: how good edits are. Original and edit stand side by side, and nothing says which is which.

Sides are drawn by a hash of the edit's id, and every question is put about both images alike: who may be the
edit is not to be guessed from the question. The answers are turned into what was asked for when they are collected:
is the violation gone from the edited image, is anything else damaged there, does it look real.
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from annotation.changes import Place, read_answers
from annotation.collect import SIMULATED_DOMAIN, evidence
from annotation.config import COMMENT, STYLE, add_choice, add_show, page_xml, project_title, wellbeing_html
from annotation.reading import Task
from annotation.tasks import (
    Progress,
    ProjectOptions,
    ProjectSpec,
    check_page,
    image_url,
    import_once,
    open_project,
    tasks_on_server,
)
from annotation.verdicts import choices_by_control
from annotation.vote_store import read_project_record
from policies.engine import PolicySet
from storage.errors import FatalError, SampleError
from storage.ledger import Ledger
from storage.parquet import parquet_bytes
from storage.records.annotation import EditRating
from storage.records.ids import content_id
from storage.records.rejection import Rejection
from storage.records.tables import from_table, to_table
from storage.workspace import Workspace

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio
    from label_studio_sdk.label_interface import LabelInterface

PAIR_VERSION = 3  # raise it whenever the page changes: a new page is a new project
Side = Literal["left", "right"]
_KEY = "key"
_ANSWERS = ("left", "right", "both", "neither")
_KEYS = ("1234", "qwet", "asdf")
QUESTIONS = {
    "shows": "Which image shows this?",
    "damaged": "Which image is damaged or odd anywhere else?",
    "realistic": "Which image looks like a real picture?",
}

_STYLE = (
    STYLE
    + """\
.gs-image { flex: 1 1 0; min-width: 0; }
.gs-pair { display: flex; gap: 20px; }
.gs-row { display: flex; gap: 0 12px; align-items: center; border-top: 1px solid #c8c8c8; padding: 3px 0; }
.gs-question { flex: 0 0 380px; }
.gs-question *, .gs-what * { font-size: 14px !important; margin: 0 !important; line-height: 1.4 !important; }
.gs-row .lsf-choices { margin: 0 !important; }
"""
)


@dataclass(frozen=True, slots=True)
class PairItem:
    """An edit and its original. `what` names what should be gone, in words, e.g. "knife"."""

    edit_id: str
    original_blob: str
    edited_blob: str
    what: str


@dataclass(frozen=True, slots=True)
class PairResult:
    """All ratings and rejections as they stand now; `full` says whether this run read everything."""

    project_id: int
    ratings: list[EditRating]
    rejected: list[Rejection]
    skipped: int
    full: bool = True


@dataclass(frozen=True, slots=True)
class PairPublication:
    """Pairs sent now, and pairs that were there before. `tasks` maps the edits published now or before to tasks."""

    project_id: int
    project_key: str
    published: int
    already_there: int
    tasks: Mapping[str, int]


def pair_config() -> str:
    """The page as XML. Every question has the choices left, right, both, neither."""
    root = ET.Element("View")
    ET.SubElement(root, "Style").text = _STYLE
    images = ET.SubElement(root, "View", className="gs-pair")
    for side in ("left", "right"):
        frame = ET.SubElement(images, "View", className="gs-image")
        ET.SubElement(frame, "Image", name=side, value=f"${side}", maxHeight="46vh", defaultZoom="fit")
    add_show(root, "left")
    what = ET.SubElement(root, "View", className="gs-what")
    ET.SubElement(what, "Text", name="what", value="$what")
    for (name, question), keys in zip(QUESTIONS.items(), _KEYS, strict=True):
        row = ET.SubElement(root, "View", className="gs-row")
        ET.SubElement(ET.SubElement(row, "View", className="gs-question"), "Header", value=question, size="5")
        choices = ET.SubElement(
            row, "Choices", name=name, toName="left", choice="single-radio", required="true", showInline="true",
            requiredMessage=f"Please answer: {question}",
        )  # fmt: skip
        hotkeys = iter(keys)
        for answer in _ANSWERS:
            add_choice(choices, hotkeys, value=answer)
    ET.SubElement(
        root, "TextArea", name=COMMENT, toName="left", placeholder="Comment (optional); Enter takes it", rows="1",
        maxSubmissions="1", required="false",
    )  # fmt: skip
    return page_xml(root)


def pair_key() -> str:
    """The hash that names the pair project."""
    return content_id("pair-project", PAIR_VERSION, pair_config())


def edited_side(edit_id: str) -> Side:
    """Where the edited image stands: drawn by the edit's id, the same on every machine."""
    return "left" if int(content_id("pair-side", edit_id), 16) % 2 else "right"


def publish_pairs(
    client: "LabelStudio",
    workspace: Workspace,
    items: Sequence[PairItem],
    policies: PolicySet,
    options: ProjectOptions,
    progress: Progress | None = None,
) -> PairPublication:
    """Put every pair into the project once; safe to repeat. `policies` only say what the note on rest should name.

    Raises as `annotation.publish.publish` does.
    """
    key = pair_key()
    title = project_title(f"{options.name} pairs", key)
    spec = ProjectSpec(title, pair_config(), _instruction(policies), options.overlap, presign=options.presign)
    unique = {item.edit_id: item for item in items}
    wanted = [_task(workspace, item) for item in unique.values()]
    check_page(spec.label_config, wanted)
    project_id = open_project(client, workspace, spec)
    wanted.sort(key=lambda task: str(task["data"][_KEY]))
    before = len({task["data"][_KEY] for task in wanted} & tasks_on_server(client, project_id, _KEY).keys())
    sent = import_once(client, project_id, wanted, _KEY, batch_size=options.batch_size, progress=progress)
    known = (workspace.read_json(_file()) or {}).get("edits", {})
    edits = known | {_pair_id(edit_id): edit_id for edit_id in unique}
    workspace.write_json(_file(), {"project_id": project_id, "project_key": key, "title": spec.title, "edits": edits})
    tasks = {edit_id: sent[pair_id].task_id for pair_id, edit_id in edits.items() if pair_id in sent}
    return PairPublication(project_id, key, len(wanted) - before, before, tasks)


def _task(workspace: Workspace, item: PairItem) -> dict[str, Any]:
    left = edited_side(item.edit_id) == "left"
    blobs = (item.edited_blob, item.original_blob) if left else (item.original_blob, item.edited_blob)
    data = {side: image_url(workspace, blob) for side, blob in zip(("left", "right"), blobs, strict=True)}
    return {"data": data | {"what": f"Look for: {item.what}", _KEY: _pair_id(item.edit_id)}}


def _pair_id(edit_id: str) -> str:
    """What names a pair on the server, where an edit's own id would be a hint."""
    return content_id("pair", edit_id)


def collect_pairs(client: "LabelStudio", workspace: Workspace, *, reconcile_every: int = 1) -> PairResult:
    """Read what changed, or every `reconcile_every`-th run everything; write all ratings and the quarantine, and
    return both.

    Raises FatalError when no pairs were published or their project is gone, TransientError when the server is silent.
    """
    found = workspace.read_json(_file())
    if found is None:
        raise FatalError("No pairs were published from this workspace.")
    place = Place(found["project_id"], found["title"], pair_key())
    answers = read_answers(client, workspace, place, "reading pair annotations", reconcile_every=reconcile_every)
    ratings, rejected = _judge(answers.tasks, found["edits"], answers.emails)
    workspace.replace(_ratings_file(), parquet_bytes(to_table(ratings, EditRating)))
    quarantine = Ledger.quarantine_key("collect", pair_key())
    if rejected or workspace.store.exists(quarantine):
        workspace.replace(quarantine, parquet_bytes(to_table(rejected, Rejection)))
    return PairResult(place.project_id, ratings, rejected, len(answers.state.skipped), answers.full)


def published_pairs(workspace: Workspace) -> tuple[str, ...]:
    """The ids of the edits that were ever published as pairs, sorted; none when there was no publication."""
    return tuple(sorted((read_project_record(workspace, pair_key()) or {}).get("edits", {}).values()))


def edit_ratings(workspace: Workspace) -> list[EditRating]:
    """The ratings that the last `collect_pairs` stored; none when there was no run."""
    key = _ratings_file()
    return from_table(workspace.read_parquet(key), EditRating) if workspace.store.exists(key) else []


def _judge(
    tasks: Iterable[Task], edits: Mapping[str, str], emails: Mapping[int, str]
) -> tuple[list[EditRating], list[Rejection]]:
    from label_studio_sdk.label_interface import LabelInterface

    interface = LabelInterface(pair_config())
    ratings: list[EditRating] = []
    rejected: list[Rejection] = []
    for task in tasks:
        edit_id = edits.get(str(task["data"].get(_KEY, "")), "")
        for annotation in task["annotations"]:
            if annotation.get("was_cancelled"):
                continue
            try:
                ratings.append(read_rating(annotation, edit_id, interface, emails))
            except SampleError as error:
                rejected.append(Rejection(edit_id, error.code, error.detail, evidence(annotation)))
    ratings.sort(key=lambda r: (r.edit_id, r.annotation_id))
    rejected.sort(key=lambda r: (r.key, r.payload_json))
    return ratings, rejected


def read_rating(
    annotation: Mapping[str, Any], edit_id: str, interface: "LabelInterface", emails: Mapping[int, str]
) -> EditRating:
    """One annotation of a pair, turned to the edited image.

    Raises SampleError: `unknown_pair`, `unknown_annotator`, `changed_by_another`, `malformed_result`,
    `not_in_config`, `missing_answer` (no answer to a question, or several).
    """
    author = annotation.get("completed_by")
    if not edit_id:
        raise SampleError("unknown_pair", "its task was not published from this workspace")
    if not isinstance(author, int) or author not in emails:
        raise SampleError("unknown_annotator", f"user {author}")
    if annotation.get("updated_by") not in (None, author):
        raise SampleError("changed_by_another", f"changed by user {annotation['updated_by']}")
    given = choices_by_control(annotation.get("result"), interface)
    side, other = edited_side(edit_id), "left" if edited_side(edit_id) == "right" else "right"
    for name in QUESTIONS:
        if len(given.get(name, [])) != 1:
            raise SampleError("missing_answer", f"{name}: {', '.join(given.get(name, [])) or 'nothing'}")
    said = {name: given[name][0] for name in QUESTIONS}
    return EditRating(
        edit_id=edit_id,
        gone=said["shows"] not in (side, "both"),
        original_shows=said["shows"] in (other, "both"),
        damaged=said["damaged"] in (side, "both"),
        realistic=said["realistic"] in (side, "both"),
        annotator=emails[author],
        simulated=emails[author].endswith(SIMULATED_DOMAIN),
        duration_s=float(annotation.get("lead_time") or 0.0),
        comment=" ".join(given.get(COMMENT, ())),
        annotation_id=int(annotation["id"]),
        updated_at=str(annotation["updated_at"]),
    )


def _instruction(policies: PolicySet) -> str:
    return (
        "<h3>Two versions of a picture</h3><p>One, both or neither may have been changed, and either may stand at the "
        "left. Answer each question for both. The line below the images names the thing that the first question is "
        "about; the second is about everything else.</p>" + wellbeing_html(policies)
    )


def _file() -> str:
    return f"annotation/{pair_key()}/project.json"


def _ratings_file() -> str:
    return f"annotation/{pair_key()}/ratings.parquet"
