"""An export's pictures: each encoded once, and packed into every row that shows it or laid beside the tables as a file.

A row that shows a file has no bytes and the path from the export's folder, which is how `datasets` reads it from there.
"""

import functools
from pathlib import Path
from typing import Any

from guard.contract.features import PICTURES
from guard.export.dataset import ImageRow
from guard.export.finish import finished
from guard.export.png import decode, png_bytes
from guard.export.views import Plan, image_of
from storage.workspace import Blobs


class Pictures:
    """Encodes into the folder `scratch`, since most images stand in several views."""

    def __init__(self, blobs: Blobs, quality: int | None, scratch: Path) -> None:
        self._blobs, self._quality, self._scratch = blobs, quality, scratch
        self.packed = functools.lru_cache(maxsize=4)(self._packed)  # sides of a pair take turns, policy by policy

    def file(self, image: ImageRow) -> Path:
        """The picture as a PNG file."""
        path = self._scratch / image.image_id
        if not path.exists():
            picture = finished(decode(self._blobs.get(image.blob), image.blob), self._quality)
            path.write_bytes(png_bytes(picture, edited=image.role != "original"))
        return path

    def _packed(self, image: ImageRow) -> dict[str, Any]:
        return {"bytes": self.file(image).read_bytes(), "path": image.file_name}

    def sizes(self, plan: Plan) -> tuple[int, int]:
        """Bytes of all pictures that the plan shows: each once, and once per row."""
        rows = _rows(plan)
        sizes = {image: self.file(image).stat().st_size for image in set(rows)}
        return sum(sizes.values()), sum(sizes[image] for image in rows)


def as_file(image: ImageRow) -> dict[str, Any]:
    """The cell of a row that shows a file."""
    return {"bytes": None, "path": f"{PICTURES}/{image.file_name}"}


def shown(plan: Plan) -> list[ImageRow]:
    """Each image that the plan shows, once."""
    return list(dict.fromkeys(_rows(plan)))


def _rows(plan: Plan) -> list[ImageRow]:
    """The image of every row."""
    return [image_of(item) for splits in plan.values() for items in splits.values() for item in items]
