"""Regions out of a COCO file (Lin et al. 2014): boxes, polygons and run-length masks.

What belongs to no image or category that the file lists, and scraps of polygons, are set aside and named.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from editing.entries import Entry
from editing.labels import box_of, list_of, number_of, text_of
from editing.run_lengths import CocoRuns
from storage.validation import reading

_LEAST_NUMBERS = 6  # a polygon takes three points
_FORM = "three points or more as x, y, x, y"


@dataclass
class CocoFile:
    """`files`: file name -> its regions. `unnamed` are those of `files` with a region whose category is not listed."""

    files: dict[str, list[Entry]]
    labels: frozenset[str]
    unnamed: dict[str, list[str]] = field(default_factory=dict)
    set_aside: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Image:
    name: str
    size: tuple[int, int] | None


def read_coco(raw: Mapping[str, Any]) -> CocoFile:
    """Raises ValueError, naming the image, category or annotation that lacks what it needs."""
    images: dict[str, _Image] = {}
    labels: dict[str, str] = {}
    for number, image in enumerate(_listed(raw, "images"), start=1):
        with reading(f"image {number}"):
            images[str(image["id"])] = _Image(text_of(image["file_name"]), _size(image))
    for number, category in enumerate(_listed(raw, "categories"), start=1):
        with reading(f"category {number}"):
            labels[str(category["id"])] = text_of(category["name"])
    read = CocoFile({image.name: [] for image in images.values()}, frozenset(labels.values()))
    for number, annotation in enumerate(_listed(raw, "annotations"), start=1):
        with reading(f"annotation {number}"):
            _add(read, f"annotation {number}", annotation, images, labels)
    if raw["annotations"] and len(read.set_aside) >= len(raw["annotations"]) and not any(read.files.values()):
        raise ValueError(f"none of its annotations can be read; {read.set_aside[0]}")
    return read


def _listed(raw: Mapping[str, Any], name: str) -> list[Any]:
    with reading(f"what it has under {name}"):
        return list_of(raw[name])


def _add(
    read: CocoFile, what: str, annotation: Mapping[str, Any], images: Mapping[str, _Image], labels: Mapping[str, str]
) -> None:
    image, category = images.get(str(annotation["image_id"])), str(annotation["category_id"])
    if image is None:
        read.set_aside.append(f"{what}: there is no image {annotation['image_id']}")
    elif category not in labels:
        read.set_aside.append(f"{what}: there is no category {category}")
        read.unnamed.setdefault(image.name, []).append(f"category {category}")
    else:
        entry, scraps = _entry(labels[category], annotation, image.size)
        read.files[image.name].append(entry)
        read.set_aside += [f"{what}: {scrap} is no polygon, which takes {_FORM}" for scrap in scraps]


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Width and height, where the file says them; some write 0 for what they do not know."""
    sides = image.get("width"), image.get("height")
    if None in sides:
        return None
    width, height = (round(number_of(side)) for side in sides)
    return (width, height) if width > 0 and height > 0 else None


def _entry(label: str, annotation: Mapping[str, Any], size: tuple[int, int] | None) -> tuple[Entry, list[Any]]:
    """The region, and the scraps of polygons that were beside it."""
    drawn = annotation.get("segmentation") or ()
    if isinstance(drawn, dict):
        return Entry(label, None, mask=_runs(drawn), counted_in=size), []
    if drawn and not isinstance(drawn[0], list):
        drawn = [drawn]  # one polygon, not in a list of its own
    polygons = [_polygon(points) for points in drawn]
    whole = tuple(polygon for polygon in polygons if len(polygon) >= _LEAST_NUMBERS and len(polygon) % 2 == 0)
    scraps = [points for points, polygon in zip(drawn, polygons, strict=True) if polygon not in whole]
    if whole:
        return Entry(label, None, whole, counted_in=size), scraps
    x, y, width, height = box_of(annotation["bbox"], "[x, y, width, height]")
    return Entry(label, (x, y, x + width, y + height), counted_in=size), scraps


def _runs(raw: Mapping[str, Any]) -> CocoRuns:
    height, width = (int(side) for side in raw["size"])
    counts = raw["counts"]
    return CocoRuns((height, width), counts if isinstance(counts, str) else tuple(int(count) for count in counts))


def _polygon(points: Any) -> tuple[float, ...]:
    try:
        return tuple(number_of(value) for value in points)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{points} is no polygon: it takes {_FORM}") from error
