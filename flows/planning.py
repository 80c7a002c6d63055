"""What a stage of a build gets to do, planned from the rows of the stages before it.

A shard of images at a time, with all that is known of those images: a build never holds the rows of all its images.
"""

from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from editing.controls import ControlSettings, plan_controls
from editing.edit import plan_edits
from policies.engine import Policy
from policies.vocabulary import Vocabulary
from recaption.delta import edited_twins, plan_deltas
from recaption.rewrite import plan_rewrites
from storage.records import (
    Caption,
    DeltaTask,
    Edit,
    EditTask,
    Image,
    Located,
    Recaption,
    RewriteTask,
    from_table,
    to_table,
)
from storage.rows import StageRows, followed


def edit_tasks(
    located: StageRows, targets: Sequence[Policy], vocabulary: Vocabulary, controls: ControlSettings
) -> Iterator[pa.Table]:
    """All removals, then all controls, both in the order of the images."""
    for images, found in _seen(located):
        yield to_table(plan_edits(images, found, targets, vocabulary), EditTask)
    for images, found in _seen(located):
        yield to_table(plan_controls(plan_edits(images, found, targets, vocabulary), images, found, controls), EditTask)


def _seen(located: StageRows) -> Iterator[tuple[list[Image], list[Located]]]:
    """Images and what was found in them."""
    with followed(located, Located) as found:
        for images in located.inputs:
            yield from_table(images, Image), found(images["image_id"])


def located_images(located: StageRows) -> Iterator[pa.Table]:
    """The images to caption. One whose findings are unknown cannot be recaptioned: what its caption leaves out would
    stay out."""
    with followed(located, Located) as found:
        for images in located.inputs:
            known = pa.array([row.image_id for row in found(images["image_id"])], pa.string())
            yield images.filter(pc.is_in(images["image_id"], value_set=known))


def rewrite_tasks(located: StageRows, described: StageRows, vocabulary: Vocabulary) -> Iterator[pa.Table]:
    """What each caption leaves out."""
    with followed(located, Located) as found, followed(described, Caption) as captions:
        for images in located.inputs:
            ids = images["image_id"]
            tasks = plan_rewrites(captions(ids), from_table(images, Image), found(ids), vocabulary)
            yield to_table(tasks, RewriteTask)


def removals(edits: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Edits without the controls, in the order of the images."""
    return (rows.filter(pc.equal(rows["kind"], "remove")) for rows in edits)


def twins(located: StageRows, edits: StageRows, recaptions: StageRows) -> Iterator[pa.Table]:
    """The edited images to caption."""
    with followed(removals(edits), Edit) as pairs, followed(recaptions, Recaption) as texts:
        for images in located.inputs:
            ids = images["image_id"]
            yield to_table(edited_twins(pairs(ids), from_table(images, Image), texts(ids)), Image)


def delta_tasks(located: StageRows, edits: StageRows, recaptions: StageRows, told: StageRows) -> Iterator[pa.Table]:
    """The texts of each pair, side by side; `told` are the captions of `twins`."""
    with (
        followed(removals(edits), Edit) as pairs,
        followed(recaptions, Recaption) as texts,
        followed(told, Caption) as captions,
    ):
        for images in located.inputs:
            ids = images["image_id"]
            edited = pairs(ids)
            names = pa.chunked_array([[edit.edited_id for edit in edited]], pa.string())
            yield to_table(plan_deltas(edited, texts(ids), captions(names)), DeltaTask)
