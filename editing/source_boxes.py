"""Regions that came with the images: the boxes that a source's columns hold (`ingest.columns`)."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from editing.boxes import Region
from editing.entries import Entry, region_of
from editing.labels import LabelMap, attribute_named, box_of, check_label_map, is_ignored
from editing.locate import LocateRequest
from policies.vocabulary import Vocabulary
from storage.errors import SampleError
from storage.records.ids import content_id

_VERSION = 1
_FORMS = "[x0, y0, x1, y1] or {box: [x0, y0, x1, y1], label: name}"


class BoxesLocator:
    """Reads each image's own boxes. `label_map` translates the source's labels into attributes."""

    def __init__(self, label_map: LabelMap, vocabulary: Vocabulary) -> None:
        check_label_map(label_map, vocabulary)
        self._label_map, self._vocabulary = dict(label_map), vocabulary

    @property
    def fingerprint(self) -> str:
        """Of what labels mean only: the boxes are part of the images' rows, which are the input."""
        return content_id("boxes", _VERSION, self._label_map, self._vocabulary.spoken)

    def locate(self, requests: Sequence[LocateRequest]) -> list[tuple[Region, ...] | SampleError]:
        return [self._regions(request) for request in requests]

    def _regions(self, request: LocateRequest) -> tuple[Region, ...] | SampleError:
        try:
            entries = read_entries(json.loads(request.meta_json))
            kept = [e for e in entries if not is_ignored(e.label, self._label_map, self._vocabulary)]
            return tuple(region_of(e, self._attribute(e.label), request.shape, "source") for e in kept)
        except SampleError as error:
            return error

    def _attribute(self, label: str) -> str:
        attribute = attribute_named(label, self._label_map, self._vocabulary)
        if attribute is None:
            raise SampleError("source_unknown_label", f"{label!r} is no attribute; map it with label_map.")
        return attribute


def read_entries(about: Mapping[str, Any]) -> list[Entry]:
    """The boxes of an image by what its source says of it; none where the source says that there are none.

    A box's label is its own, or stands at its place in `labels`, or is the image's `category`.
    Raises SampleError `source_no_boxes` (the source says nothing), `source_bad_box`, `source_no_label`.
    """
    boxes, labels = about.get("boxes"), about.get("labels")
    if not isinstance(boxes, list):
        raise SampleError("source_no_boxes", "Its source gives no list of boxes; an empty one says that it shows none.")
    if not isinstance(labels, list):
        labels = [about.get("category")] * len(boxes)
    if len(labels) != len(boxes):
        raise SampleError("source_no_label", f"There are {len(boxes)} boxes and {len(labels)} labels.")
    return [_entry(box, label) for box, label in zip(boxes, labels, strict=True)]


def _entry(raw: Any, label: Any) -> Entry:
    if isinstance(raw, dict):
        raw, label = raw.get("box"), raw.get("label", label)
    try:
        box = box_of(raw, _FORMS)
    except ValueError as error:
        raise SampleError("source_bad_box", f"{raw!r} is not {_FORMS}.") from error
    if label is None:
        raise SampleError("source_no_label", f"Nothing says what {raw} shows.")
    return Entry(str(label), box)
