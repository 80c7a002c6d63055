"""Looks again before a finding becomes words: what a mirrored copy of the image does not show is not put in.

A locator that invents an object, or misplaces it, seldom does so twice: the mirrored copy puts every object into other
patches of its vision tower. One kind of test-time augmentation, used to doubt, not to add.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import pyarrow as pa
from PIL.Image import Image as PilImage
from PIL.Image import Transpose

from recaption.places import placed
from storage.errors import SampleError
from storage.images import open_stored
from storage.network import Batching, run_network
from storage.records.recaption import Placed, RewriteTask
from storage.records.tables import from_table
from storage.stage import BatchResult
from storage.workspace import Workspace

Seen = tuple[tuple[str, tuple[int, ...]], ...]
"""What somebody sees in an image: (attribute id, xyxy box in pixels), one per object."""

Look = Callable[[Sequence[PilImage]], list[Seen | SampleError]]
"""Looks at images; one answer per image, in order."""


def _doubt(task: RewriteTask, seen: Seen, width: int, height: int) -> SampleError | None:
    """What the second look says against the first; both are compared in the words that the rewriter reads.

    The two boxes of a thing are never quite the same: a word that is right for the second is confirmed.
    """
    first = task.findings
    second = [
        placed(attribute, (width - x1, y0, width - x0, y1), (width, height))
        for attribute, (x0, y0, x1, y1) in seen
        if attribute in task.attributes
    ]
    counts = [Counter(one.attribute for one in look) for look in (first, second)]
    if counts[0] == counts[1] and all(_agree(name, first, second) for name in counts[0]):
        return None
    seen_by = [
        "; ".join(sorted(f"{one.attribute} at the {one.place}" for one in look)) or "nothing"
        for look in (first, second)
    ]
    detail = f"First look: {seen_by[0]}. Second look, at the mirrored image: {seen_by[1]}."
    return SampleError("place_not_confirmed" if counts[0] == counts[1] else "finding_not_confirmed", detail)


def _agree(name: str, first: Sequence[Placed], second: Sequence[Placed]) -> bool:
    """Whether each thing of a kind has one of the second look that confirms its place, no two the same: a perfect
    matching, found along augmenting paths (Kuhn 1955)."""
    one, other = ([thing for thing in look if thing.attribute == name] for look in (first, second))
    partner: dict[int, int] = {}

    def finds_partner(index: int, tried: set[int]) -> bool:
        fitting = (n for n, thing in enumerate(other) if one[index].place in thing.places)
        for number in (n for n in fitting if n not in tried):
            tried.add(number)
            if number not in partner or finds_partner(partner[number], tried):
                partner[number] = index
                return True
        return False

    return all(finds_partner(index, set()) for index in range(len(one)))


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
        batching = Batching(self._rows_at_once, lambda image: 3 * image.width * image.height)
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
