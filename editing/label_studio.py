"""Regions out of a Label Studio export (JSON): rectangles, polygons, ellipses and brush strokes.

Label Studio counts in percent of the picture, and turns shapes clockwise by degrees.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from editing.entries import Entry, reading
from editing.run_lengths import BrushRuns

_ELLIPSE_POINTS = 72  # straight pieces that an ellipse is drawn with
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # what the server puts before the name of an uploaded file
_SHAPES = "rectangles, polygons, ellipses and brush strokes are read"


def read_export(tasks: Sequence[Mapping[str, Any]]) -> dict[str, list[Entry]]:
    """File name -> the regions of the first annotation that was not skipped; tasks without one are left out.

    A file is listed under the name that the server gave it and, where that is nobody else's, under its own.
    Raises ValueError, naming the task, for a shape that is not read, or that lacks its label or its numbers.
    """
    found: dict[str, list[Entry]] = {}
    for number, task in enumerate(tasks, start=1):
        with reading(f"task {task.get('id', number)}"):
            done = [annotation for annotation in task["annotations"] if not annotation.get("was_cancelled")]
            if done:
                found.setdefault(_name(task), []).extend(_entries(done[0]["result"]))
    own = Counter(_UPLOAD_PREFIX.sub("", name) for name in found)
    plain = {_UPLOAD_PREFIX.sub("", name): entries for name, entries in found.items()}
    return found | {name: entries for name, entries in plain.items() if own[name] == 1}


def _name(task: Mapping[str, Any]) -> str:
    """The file's name: of an upload, of a file that the server serves from a folder (`?d=`), or the end of a URL."""
    if task.get("file_upload"):
        return str(task["file_upload"])
    url = urlsplit(str(task["data"]["image"]))
    served = parse_qs(url.query).get("d")
    return served[0] if served else PurePosixPath(unquote(url.path)).name


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
    return [label for key, labels in item.get("value", {}).items() if key.endswith("labels") for label in labels]


def _entry(label: str, item: Mapping[str, Any]) -> Entry:
    value = item["value"]
    if "rle" in value:
        size = int(item["original_height"]), int(item["original_width"])
        return Entry(label, None, mask=BrushRuns(size, bytes(value["rle"])))
    if "points" in value:
        return _drawn(label, [(x / 100, y / 100) for x, y in value["points"]])
    if "radiusX" in value:
        return _drawn(label, _turned(item, _round(value["radiusX"], value["radiusY"])))
    if {"x", "y", "width", "height"} <= value.keys() and "video" not in str(item.get("type")):
        width, height = value["width"], value["height"]
        if value.get("rotation"):
            return _drawn(label, _turned(item, [(0, 0), (width, 0), (width, height), (0, height)]))
        x, y = value["x"] / 100, value["y"] / 100
        return Entry(label, (x, y, x + width / 100, y + height / 100), relative=True)
    raise ValueError(f"a region of the type {item.get('type')!r}; {_SHAPES}")


def _round(radius_x: float, radius_y: float) -> list[tuple[float, float]]:
    angles = [2 * math.pi * step / _ELLIPSE_POINTS for step in range(_ELLIPSE_POINTS)]
    return [(radius_x * math.cos(angle), radius_y * math.sin(angle)) for angle in angles]


def _turned(item: Mapping[str, Any], points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points in percent from the shape's own (x, y), turned around it, as shares of the picture.

    Turned in pixels: a percent of the width is another length than a percent of the height.
    """
    value, (width, height) = item["value"], (item["original_width"], item["original_height"])
    angle = math.radians(value.get("rotation") or 0)
    turned = []
    for right, down in ((x * width / 100, y * height / 100) for x, y in points):
        x = right * math.cos(angle) - down * math.sin(angle)
        y = right * math.sin(angle) + down * math.cos(angle)
        turned.append((value["x"] / 100 + x / width, value["y"] / 100 + y / height))
    return turned


def _drawn(label: str, points: Sequence[tuple[float, float]]) -> Entry:
    if len(points) < 3:
        raise ValueError(f"a polygon of {len(points)} points")
    return Entry(label, None, (tuple(value for point in points for value in point),), relative=True)
