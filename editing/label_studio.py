"""Regions out of a Label Studio export (JSON): rectangles, polygons, ellipses and brush strokes.

Label Studio counts in percent of the picture as the annotator had turned it, and turns shapes clockwise by degrees.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from editing.entries import Entry
from editing.labels import list_of, number_of, text_of
from editing.run_lengths import BrushRuns
from editing.task_names import Path, paths_of
from storage.validation import reading

_ELLIPSE_POINTS = 72  # straight pieces that an ellipse is drawn with
_SHAPES = "rectangles, polygons, ellipses and brush strokes are read"
_UNTURNED = {  # where a point of the picture turned clockwise lies in the upright one, both as shares
    0: lambda x, y: (x, y),
    90: lambda x, y: (y, 1 - x),
    180: lambda x, y: (1 - x, 1 - y),
    270: lambda x, y: (1 - y, x),
}
Points = Sequence[tuple[float, float]]


def read_export(tasks: Sequence[Mapping[str, Any]]) -> list[tuple[tuple[Path, ...], list[Entry]]]:
    """Each task's paths, any of which may be its picture's, and its regions; tasks that nobody finished are left out.

    Of several annotations that were not skipped the ground truth counts, or else the first that marks something.
    Raises ValueError, naming the task, for a shape that is not read, or that lacks its label or its numbers.
    """
    found = []
    for number, task in enumerate(tasks, start=1):
        with reading(f"task {task.get('id', number)}"):
            done = [annotation for annotation in task["annotations"] if not annotation.get("was_cancelled")]
            if done:
                truth = [annotation for annotation in done if annotation.get("ground_truth")]
                read = [_entries(annotation["result"]) for annotation in truth or done]
                found.append((paths_of(task), next(filter(None, read), [])))
    return found


def _entries(result: Sequence[Mapping[str, Any]]) -> list[Entry]:
    """Each labelled shape, once for each of its labels. Answers about a shape or the whole picture are none."""
    labelled = {item.get("id") for item in result if _labels(item)}
    entries = []
    for item in result:
        if item.get("id") in labelled or _labels(item):
            entries += [_entry(label, item) for label in _labels(item)]
        elif item.get("type") in ("rectangle", "polygon", "ellipse", "brush", "bitmask", "keypoint"):
            raise ValueError(f"a {item['type']} without a label")
    return entries


def _labels(item: Mapping[str, Any]) -> list[str]:
    """`rectanglelabels`, `polygonlabels`, ..., or `labels`, as the labelling interface names them."""
    found = [labels for key, labels in item.get("value", {}).items() if key.endswith("labels")]
    return [text_of(label) for labels in found for label in list_of(labels)]


def _entry(label: str, item: Mapping[str, Any]) -> Entry:
    value, turned = item["value"], item.get("image_rotation") or 0
    if turned not in _UNTURNED:
        raise ValueError(f"a picture turned by {turned} degrees")
    if "rle" in value:
        if turned:
            raise ValueError("a brush stroke on a picture that was turned; turn it back and save the task again")
        size = int(item["original_height"]), int(item["original_width"])
        return Entry(label, None, mask=BrushRuns(size, bytes(value["rle"])))
    if "points" in value:
        points = [(number_of(x) / 100, number_of(y) / 100) for x, y in value["points"]]
        return _drawn(label, points, turned)
    if "radiusX" in value:
        ellipse = _round(number_of(value["radiusX"]), number_of(value["radiusY"]))
        return _drawn(label, _turned(item, ellipse), turned)
    if {"x", "y", "width", "height"} <= value.keys() and "video" not in str(item.get("type")):
        return _rectangle(label, item, turned)
    raise ValueError(f"a region of the type {item.get('type')!r}; {_SHAPES}")


def _rectangle(label: str, item: Mapping[str, Any], turned: int) -> Entry:
    value = item["value"]
    x, y, width, height = (number_of(value[name]) for name in ("x", "y", "width", "height"))
    if value.get("rotation"):
        return _drawn(label, _turned(item, [(0, 0), (width, 0), (width, height), (0, height)]), turned)
    left, top = x / 100, y / 100
    corners = [_UNTURNED[turned](*corner) for corner in ((left, top), (left + width / 100, top + height / 100))]
    (x0, y0), (x1, y1) = corners
    return Entry(label, (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), relative=True)


def _round(radius_x: float, radius_y: float) -> Points:
    angles = [2 * math.pi * step / _ELLIPSE_POINTS for step in range(_ELLIPSE_POINTS)]
    return [(radius_x * math.cos(angle), radius_y * math.sin(angle)) for angle in angles]


def _turned(item: Mapping[str, Any], points: Points) -> Points:
    """Points in percent from the shape's own (x, y), turned around it, as shares of the picture.

    Turned in pixels: a percent of the width is another length than a percent of the height.
    """
    value, (width, height) = item["value"], (number_of(item["original_width"]), number_of(item["original_height"]))
    if item.get("image_rotation") in (90, 270):
        width, height = height, width
    angle = math.radians(number_of(value.get("rotation") or 0))
    left, top = number_of(value["x"]) / 100, number_of(value["y"]) / 100
    turned = []
    for right, down in ((x * width / 100, y * height / 100) for x, y in points):
        x = right * math.cos(angle) - down * math.sin(angle)
        y = right * math.sin(angle) + down * math.cos(angle)
        turned.append((left + x / width, top + y / height))
    return turned


def _drawn(label: str, points: Points, turned: int) -> Entry:
    if len(points) < 3:
        raise ValueError(f"a polygon of {len(points)} points")
    upright = [_UNTURNED[turned](x, y) for x, y in points]
    return Entry(label, None, (tuple(value for point in upright for value in point),), relative=True)
