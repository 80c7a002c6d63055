"""Locating with a zero-shot detector."""

import pytest
from PIL import Image as PilImage

from editing.boxes import iou
from editing.detect import DetectorLocator
from editing.locate import LocateRequest
from micro.world import VOCABULARY
from models.detector import Detection
from tests.drawing import draw


class FakeDetector:
    fingerprint = "fake"

    def __init__(self, *detections):
        self._detections = list(detections)

    def detect(self, images, labels):
        assert "a knife" in labels
        return [self._detections for _ in images]


def locate(*detections):
    locator = DetectorLocator(FakeDetector(*detections), VOCABULARY, max_iou=0.5)
    (regions,) = locator.locate([LocateRequest(PilImage.fromarray(draw(1, (100, 50))))])
    return regions


def test_boxes_become_regions_inside_the_image():
    (region,) = locate(Detection("a knife", (-3.0, 4.6, 120.0, 20.4), 0.9))
    assert (region.attributes, region.box, region.score) == (("blade",), (0, 4, 100, 20), 0.9)


def test_one_object_with_two_names_is_the_one_with_the_better_score():
    regions = locate(
        Detection("a syringe", (0, 0, 10, 10), 0.4),
        Detection("a knife", (1, 0, 10, 10), 0.8),
        Detection("a cup", (50, 0, 60, 10), 0.3),
    )
    assert [r.attributes for r in regions] == [("blade",), ("cup",)]


# Two 10 x 10 boxes that share 5 x 10: 50 of 150.
@pytest.mark.parametrize(
    ("other", "expected"), [((5, 0, 15, 10), 1 / 3), ((0, 0, 10, 10), 1.0), ((20, 20, 30, 30), 0.0)]
)
def test_iou(other, expected):
    assert iou((0, 0, 10, 10), other) == pytest.approx(expected)
