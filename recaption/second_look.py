"""Looks again before a finding becomes words: what a mirrored copy of the image does not show is not put in.

A locator that invents an object, or places it beside a border of the 3x3 grid, seldom does so twice: the mirrored copy
puts every object into other patches of its vision tower. One kind of test-time augmentation, used to doubt, not to add.
"""

from collections.abc import Callable, Sequence

import pyarrow as pa
from PIL.Image import Image as PilImage
from PIL.Image import Transpose

from policies.phrases import position_word
from storage.errors import SampleError
from storage.images import open_stored
from storage.network import Batching, run_network
from storage.records.recaption import RewriteTask
from storage.records.tables import from_table
from storage.stage import BatchResult
from storage.workspace import Workspace

Seen = tuple[tuple[str, tuple[int, ...]], ...]
"""What somebody sees in an image: (attribute id, xyxy box in pixels), one per object."""

Look = Callable[[Sequence[PilImage]], list[Seen | SampleError]]
"""Looks at images; one answer per image, in order."""


def _doubt(task: RewriteTask, seen: Seen, width: int, height: int) -> SampleError | None:
    """What the second look says against the first; both are compared in the words that the rewriter reads."""
    first = sorted((finding.attribute, finding.place) for finding in task.findings)
    second = sorted(
        (attribute, position_word((width - x1, y0, width - x0, y1), width, height))
        for attribute, (x0, y0, x1, y1) in seen
        if attribute in task.attributes
    )
    if first == second:
        return None
    told = [
        "; ".join(f"{attribute} at the {place}" for attribute, place in look) or "nothing" for look in (first, second)
    ]
    detail = f"First look: {told[0]}. Second look, at the mirrored image: {told[1]}."
    kinds = [[attribute for attribute, _ in look] for look in (first, second)]
    return SampleError("place_not_confirmed" if kinds[0] == kinds[1] else "finding_not_confirmed", detail)


class SecondLookStage:
    """The tasks whose findings are seen again, as often and in the same places, in the mirrored image.

    Refuses the others as `finding_not_confirmed` (a kind is not there, or not as often) or `place_not_confirmed`; a
    look that cannot be read refuses with its own code. A task with nothing to put in needs no look.
    """

    def __init__(self, workspace: Workspace, look: Look, rows_at_once: int | None) -> None:
        self._workspace = workspace
        self._look = look
        self._rows_at_once = rows_at_once

    def run_shard(self, shard: pa.Table) -> BatchResult[RewriteTask]:
        tasks = from_table(shard, RewriteTask)
        asked = [task for task in tasks if task.attributes]
        batching = Batching(self._rows_at_once, pixels_of=lambda image: image.width * image.height)
        looked = run_network(asked, self, batching, key=lambda task: task.image_id)
        refused = {rejection.key for rejection in looked.rejected}
        return BatchResult([task for task in tasks if task.image_id not in refused], looked.rejected)

    def prepare(self, row: RewriteTask) -> PilImage:
        image = open_stored(self._workspace.blobs.get(row.blob)).convert("RGB")
        return image.transpose(Transpose.FLIP_LEFT_RIGHT)

    def run(self, pieces: Sequence[PilImage]) -> list[Seen | SampleError]:
        return self._look(pieces)

    def finish(self, row: RewriteTask, piece: PilImage, answer: Seen | SampleError) -> list[RewriteTask]:
        error = answer if isinstance(answer, SampleError) else _doubt(row, answer, piece.width, piece.height)
        if error is not None:
            raise error
        return [row]
