"""A finding becomes words only when the mirrored image shows it too."""

import numpy as np
import pytest

from recaption.second_look import SecondLookStage
from storage.errors import SampleError
from storage.images import encode_png
from storage.records.recaption import Placed, RewriteTask
from storage.records.tables import to_table
from tests.drawing import draw

WIDTH = 90  # of every drawing here, 60 high
KNIFE = ("blade", (5, 5, 15, 15))  # as drawn: the upper left cell is 30 x 20


def mirrored(*seen):
    """What a faithful second look answers about the mirrored image."""
    return tuple((name, (WIDTH - x1, y0, WIDTH - x0, y1)) for name, (x0, y0, x1, y1) in seen)


def look_again(workspace, answer, places=("upper left",)):
    image = draw(1, (WIDTH, 60))
    asked = []

    def look(images):
        asked.extend(images)
        return [answer for _ in images]

    findings = tuple(Placed("blade", place) for place in places)
    attributes = tuple({finding.attribute for finding in findings})
    task = RewriteTask("i", "A picture.", attributes, findings, workspace.blobs.put(encode_png(image)))
    result = SecondLookStage(workspace, look, 4).run_shard(to_table([task], RewriteTask))
    assert all(np.array_equal(seen, image[:, ::-1]) for seen in asked)
    return result, len(asked)


def test_what_is_seen_twice_goes_on(workspace):
    result, asked = look_again(workspace, mirrored(KNIFE))
    assert ([row.image_id for row in result.ok], result.rejected, asked) == (["i"], [], 1)


@pytest.mark.parametrize(
    ("seen", "code"),
    [
        ((), "finding_not_confirmed"),
        (mirrored(KNIFE, ("blade", (70, 40, 80, 50))), "finding_not_confirmed"),  # one was found, two are seen
        ((KNIFE,), "place_not_confirmed"),  # at the left of the mirrored image, so at the right of this one
        (mirrored(("blade", (40, 5, 50, 15))), "place_not_confirmed"),
        (SampleError("locator_truncated", "No end."), "locator_truncated"),
    ],
)
def test_what_the_second_look_denies_is_refused(workspace, seen, code):
    result, _ = look_again(workspace, seen)
    assert (result.ok, [r.code for r in result.rejected]) == ([], [code])


def test_kinds_that_are_not_put_in_do_not_matter(workspace):
    result, _ = look_again(workspace, mirrored(KNIFE, ("clock", (70, 40, 80, 50)), ("flame", (40, 5, 50, 15))))
    assert len(result.ok) == 1


def test_two_of_a_kind_are_compared_whatever_their_order(workspace):
    both = mirrored(("blade", (70, 40, 80, 50)), KNIFE)
    result, _ = look_again(workspace, both, places=("upper left", "lower right"))
    assert len(result.ok) == 1


def test_nothing_to_put_in_needs_no_look(workspace):
    result, asked = look_again(workspace, (), places=())
    assert (len(result.ok), asked) == (1, 0)
