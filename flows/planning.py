"""What a stage of a build gets to do, planned from the rows of the stages before it.

A shard of images at a time, with all that is known of those images: a build never holds the rows of all its images.
"""

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from editing.controls import ControlSettings, plan_controls
from editing.edit import plan_edits
from editing.insertions import losing_excuses, plan_insertions
from policies.engine import Policy
from policies.vocabulary import Vocabulary
from recaption.delta import edited_twins, plan_deltas
from recaption.rewrite import plan_rewrites
from storage.records.editing import Edit, EditTask, Located
from storage.records.images import Image, Picture
from storage.records.recaption import Caption, DeltaTask, Recaption, RewriteTask
from storage.records.tables import from_table, to_table
from storage.records.verdicts import PAIRED
from storage.rows import followed

Rows = Iterable[pa.Table]
"""A stage's rows in the order of the images; `images` are those of dedup."""


_ROWS_AT_ONCE = 8


def _few(images: Rows) -> Iterator[pa.Table]:
    """The images a few at a time: what a stage says of the next ones may not be there yet, and those before need not
    wait for it."""
    for rows in images:
        for start in range(0, rows.num_rows, _ROWS_AT_ONCE):
            yield rows.slice(start, _ROWS_AT_ONCE)


def pictures(images: Rows, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The images with these columns of `Picture`, the others empty."""
    blank = to_table([Picture("", "")], Picture)
    for rows in images:
        filled = [
            rows[name] if name in columns else pa.repeat(blank[name][0], rows.num_rows) for name in blank.schema.names
        ]
        yield pa.table(filled, schema=blank.schema)


def edit_tasks(
    images: Rows, located: Rows, targets: Sequence[Policy], vocabulary: Vocabulary, controls: ControlSettings
) -> Iterator[pa.Table]:
    """In the order of the images, each one's removal or insertion before its controls: a new image changes no other's
    place."""
    for some, found in _seen(images, located):
        removals = losing_excuses(plan_edits(some, found, targets, vocabulary), found, targets, vocabulary, controls)
        place = {image.image_id: number for number, image in enumerate(some)}
        insertions = plan_insertions(some, found, targets, vocabulary, controls)
        tasks = [*removals, *insertions, *plan_controls(removals, some, found, controls)]
        yield to_table(sorted(tasks, key=lambda task: place[task.image_id]), EditTask)


def _seen(images: Rows, located: Rows) -> Iterator[tuple[list[Image], list[Located]]]:
    """Images and what was found in them."""
    with followed(located, Located) as found:
        for rows in _few(images):
            yield from_table(rows, Image), found(rows["image_id"])


def located_images(images: Rows, located: Rows) -> Iterator[pa.Table]:
    """The images to caption. One whose findings are unknown cannot be recaptioned: what its caption leaves out would
    stay out."""
    with followed(located, Located) as found:
        for rows in _few(images):
            known = pa.array([row.image_id for row in found(rows["image_id"])], pa.string())
            yield rows.filter(pc.is_in(rows["image_id"], value_set=known))


def rewrite_tasks(images: Rows, located: Rows, described: Rows, vocabulary: Vocabulary) -> Iterator[pa.Table]:
    """What each caption leaves out."""
    with followed(located, Located) as found, followed(described, Caption) as captions:
        for rows in _few(images):
            ids = rows["image_id"]
            tasks = plan_rewrites(captions(ids), from_table(rows, Image), found(ids), vocabulary)
            yield to_table(tasks, RewriteTask)


def pairs(edits: Rows) -> Iterator[pa.Table]:
    """Edits without the controls, in the order of the images."""
    return (rows.filter(pc.is_in(rows["kind"], value_set=pa.array(PAIRED))) for rows in edits)


def removals(edits: Rows) -> Iterator[pa.Table]:
    """Edits that took something away, in the order of the images."""
    return (rows.filter(pc.equal(rows["kind"], "remove")) for rows in edits)


def twins(images: Rows, edits: Rows, recaptions: Rows) -> Iterator[pa.Table]:
    """The edited images to caption."""
    with followed(removals(edits), Edit) as pairs, followed(recaptions, Recaption) as texts:
        for rows in _few(images):
            ids = rows["image_id"]
            yield to_table(edited_twins(pairs(ids), texts(ids)), Picture)


def delta_tasks(images: Rows, edits: Rows, recaptions: Rows, described: Rows) -> Iterator[pa.Table]:
    """The texts of each pair, side by side; `described` are the captions of `twins`."""
    with (
        followed(removals(edits), Edit) as pairs,
        followed(recaptions, Recaption) as texts,
        followed(described, Caption) as captions,
    ):
        for rows in _few(images):
            ids = rows["image_id"]
            edited = pairs(ids)
            names = pa.chunked_array([[edit.edited_id for edit in edited]], pa.string())
            yield to_table(plan_deltas(edited, texts(ids), captions(names)), DeltaTask)
