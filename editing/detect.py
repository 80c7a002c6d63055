"""Locating with a zero-shot detector: it is asked for every attribute of the vocabulary by its noun."""

from collections.abc import Sequence

from editing.boxes import Region, iou
from editing.locate import LocateRequest
from models.detector import Detection, Detector
from policies.vocabulary import Vocabulary
from storage.errors import SampleError
from storage.records.ids import content_id


class DetectorLocator:
    """Regions from a detector's boxes. Of boxes that overlap by more than `max_iou`, the best score stays.

    Detectors answer one object with several boxes and several words; without this an image of one knife would
    show a knife, a needle and a cigarette.
    """

    def __init__(self, detector: Detector, vocabulary: Vocabulary, *, max_iou: float) -> None:
        self._detector = detector
        self._max_iou = max_iou
        self._labels = {f"a {attribute.noun}": attribute.id for attribute in vocabulary.values()}

    @property
    def fingerprint(self) -> str:
        return content_id(self._detector.fingerprint, self._max_iou, self._labels)

    def locate(self, requests: Sequence[LocateRequest]) -> list[tuple[Region, ...] | SampleError]:
        images = [request.image for request in requests]
        found = self._detector.detect(images, list(self._labels))
        return [self._regions(r, detections) for r, detections in zip(requests, found, strict=True)]

    def _regions(self, request: LocateRequest, detections: Sequence[Detection]) -> tuple[Region, ...]:
        height, width = request.shape
        kept: list[Detection] = []
        for detection in sorted(detections, key=lambda d: -d.score):
            if all(iou(detection.box, other.box) <= self._max_iou for other in kept):
                kept.append(detection)
        return tuple(self._region(detection, width, height) for detection in kept)

    def _region(self, detection: Detection, width: int, height: int) -> Region:
        attribute = self._labels[detection.label]
        x0, y0, x1, y1 = detection.box
        left, top = min(max(0, int(x0)), width - 1), min(max(0, int(y0)), height - 1)
        box = (left, top, max(left + 1, min(width, round(x1))), max(top + 1, min(height, round(y1))))
        return Region((attribute,), box, score=detection.score)
