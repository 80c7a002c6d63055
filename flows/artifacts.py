"""What a run leaves on its page in Prefect: progress, counts, report, thumbnails, or why it failed."""

import base64
import io
import itertools
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from PIL import Image as Pillow
from PIL import ImageFilter
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.context import FlowRunContext, TaskRunContext

from flows.annotate import Collection
from flows.build import BuildSummary
from flows.engine.progress import StageSummary
from flows.export import LATEST_EXPORT
from flows.outcome import Outcome, read_outcome
from guard.export.write import ExportResult
from storage.images import decode_stored
from storage.records.editing import Edit
from storage.store import LocalStore
from storage.workspace import Workspace

_EVERY_S = 5.0  # a progress artifact is not changed more often
_THUMBNAILS, _SIDE_PX, _BLUR_PX = 6, 96, 6
_LINK_EXPIRES_S = 7 * 24 * 3600  # the longest that S3 signs for


class ProgressArtifacts:
    """A progress bar per stage on the run's page. A stage that is done at once gets none in between."""

    def __init__(self) -> None:
        self._ids: dict[str, Any] = {}
        self._told: dict[str, float] = {}
        self._guard = threading.Lock()

    def reach(self, stage: str, done: int, total: int | None) -> None:
        if FlowRunContext.get() is None and TaskRunContext.get() is None:
            return  # a server that starts beside the run has no place on its page
        now, share = time.monotonic(), 0.0 if total is None else 100.0 * done / total if total else 100.0
        with self._guard:
            if stage not in self._ids:
                self._ids[stage] = create_progress_artifact(share, key=_key(stage), description=f"Stage {stage}")
                self._told[stage] = now
            elif done == total or now - self._told[stage] > _EVERY_S:
                identity = self._ids[stage]
                update_progress_artifact(identity if isinstance(identity, UUID) else UUID(str(identity)), share)
                self._told[stage] = now


def _key(name: str) -> str:
    return f"guardset-{name.replace('_', '-')}"


def leave(result: object, root: str) -> None:
    """What people want to see of a command's result; nothing for a result of another kind."""
    workspace = Workspace.open(root)
    match result:
        case BuildSummary():
            leave_counts(result.stages)
            leave_thumbnails(workspace, read_outcome(workspace))
            leave_newest_report(workspace)
        case Collection():
            leave_votes(result)
            leave_newest_report(workspace)
        case ExportResult():
            leave_views(result)
            leave_report(workspace, result.path)


def leave_counts(stages: Sequence[StageSummary]) -> None:
    """A table of rows and rejections by stage."""
    rows = [
        {
            "stage": stage.name,
            "rows in": stage.rows_in,
            "rows out": stage.rows_out,
            "rejected": ", ".join(f"{code} {count}" for code, count in sorted(stage.rejected.items())),
            "shards run": stage.shards - stage.looked_up,
            "shards looked up": stage.looked_up,
        }
        for stage in stages
    ]
    create_table_artifact(rows, key=_key("counts"), description="Rows and rejections by stage")


def leave_votes(found: Collection) -> None:
    """A table of what people said so far, what was refused, and how many cells of the label matrix are decided."""
    result = found.result
    refused = Counter(rejection.code for rejection in result.rejected)
    rows = [
        {"what": "votes", "count": result.table.num_rows},
        {"what": "annotations", "count": result.annotations},
        {"what": "annotations that are new", "count": result.new},
        {"what": "annotations that were skipped", "count": result.skipped},
        *({"what": f"refused: {code}", "count": count} for code, count in sorted(refused.items())),
        *_counted("labels", Counter(label.status for label in found.round.labels)),
    ]
    create_table_artifact(rows, key=_key("counts"), description="Votes and labels")


def _counted(what: str, counts: Mapping[str, int]) -> list[dict[str, Any]]:
    return [{"what": f"{what}: {name}", "count": count} for name, count in sorted(counts.items())]


def leave_views(result: ExportResult) -> None:
    """A table of the export's rows by view and split, and of what was left out and why."""
    views = [
        {"what": f"{view}, {split}", "count": counts["rows"]}
        for view, splits in result.counts["views"].items()
        for split, counts in splits.items()
    ]
    rows = [*views, *_counted("left out", result.counts["left_out"])]
    create_table_artifact(rows, key=_key("counts"), description=f"Export {result.version}")


def leave_newest_report(workspace: Workspace) -> None:
    """A link to the report of the newest export; none before the first one."""
    latest = workspace.read_json(LATEST_EXPORT)
    if latest is not None:
        leave_report(workspace, f"{workspace.store.root}/exports/{latest['name']}/{latest['version']}")


def leave_report(workspace: Workspace, path: str) -> None:
    """A link to an export's report: signed for a week on S3, a file URL in a local workspace."""
    store = workspace.store
    if isinstance(store, LocalStore):
        url = f"file://{path}/report.html"
    else:
        from storage.s3 import S3Store

        assert isinstance(store, S3Store)
        url = store.share(f"{path.removeprefix(store.root)}/report.html".lstrip("/"), _LINK_EXPIRES_S)
    create_link_artifact(url, link_text="report.html", key=_key("report"), description=f"Export {path}")


def leave_thumbnails(workspace: Workspace, outcome: Outcome) -> None:
    """A few pairs, so blurred that nobody sees by accident what the images show."""
    lines = ["| original | edited |", "|---|---|"]
    few = list(itertools.islice(outcome.rows("select", Edit), _THUMBNAILS))
    for edit in few:
        before, after = (_blurred(workspace.blobs.get(blob)) for blob in (edit.original_blob, edit.edited_id))
        lines.append(f"| ![blurred]({before}) | ![blurred]({after}) |")
    text = "\n".join(lines) if few else "No pair was accepted."
    create_markdown_artifact(text, key=_key("thumbnails"), description="Accepted pairs, blurred")


def _blurred(data: bytes) -> str:
    """A data URI of at most `_SIDE_PX` pixels a side."""
    image = Pillow.fromarray(decode_stored(data))
    image.thumbnail((_SIDE_PX, _SIDE_PX))
    sink = io.BytesIO()
    image.filter(ImageFilter.GaussianBlur(_BLUR_PX)).save(sink, format="JPEG", quality=60)
    return "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode()


def leave_failure(error: Exception, command: str) -> None:
    """Why a run stopped, where, and the command that continues it."""
    notes = "\n\n".join(getattr(error, "__notes__", []))
    go_on = f"What is finished is kept. Continue with\n\n```sh\n{command}\n```"
    text = f"**{type(error).__name__}**: {error}\n\n{notes}\n\n{go_on}"
    create_markdown_artifact(text, key=_key("failure"), description="Why this run stopped, and how it goes on")
