"""One image's way through a build as a page: what each stage said of it, beside the pictures that it made."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from guard.export.thumbnails import thumbnail
from reporting.page import render_page
from storage.workspace import Blobs


@dataclass(frozen=True)
class Step:
    """What is known from one stage, or from annotators, in lines for people; `pictures` are words and blobs."""

    name: str
    says: str  # what the stage is for
    lines: tuple[str, ...]
    pictures: tuple[tuple[str, str], ...] = ()


def history_page(name: str, steps: Sequence[Step], blobs: Blobs) -> str:
    """The page as text, with nothing loaded from elsewhere. Pictures are blurred until they are clicked."""
    shown = [(step, [(words, _veiled(blobs, blob)) for words, blob in step.pictures]) for step in steps]
    return render_page("guard.export", "history.html.j2", {}, name=name, steps=shown)


def _veiled(blobs: Blobs, blob: str) -> dict[str, Any]:
    return {"thumbnail": thumbnail(blobs.get(blob), blob), "veiled": True}
