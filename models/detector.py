"""Zero-shot object detection: boxes for words, through transformers' pipeline of that name."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from PIL.Image import Image

from models.device import at_device, load_on_device, still_needed
from models.source import fingerprint_of
from storage.errors import FatalError
from storage.images import decoded
from storage.records.ids import content_id


@dataclass(frozen=True)
class Detection:
    """One box, (x0, y0, x1, y1) in pixels of the image that was given, and the words that it answers."""

    label: str
    box: tuple[float, float, float, float]
    score: float


class Detector(Protocol):
    """Finds what words name. One list per image, in order, best score first."""

    @property
    def fingerprint(self) -> str: ...

    def detect(self, images: Sequence[Image], labels: Sequence[str]) -> list[list[Detection]]: ...


class ZeroShotDetector:
    """Any model of transformers' `zero-shot-object-detection` task (OWL-ViT, OWLv2, Grounding DINO).

    `threshold` drops boxes of a lower score (0..1). The weights are loaded by the first call; calls from several
    threads take turns. Raises FatalError when `source` is not there or cannot be loaded.
    """

    def __init__(self, source: str, *, revision: str | None = None, threshold: float, batch_size: int = 8) -> None:
        self._source, self._revision = source, revision
        self._threshold, self._batch_size = threshold, batch_size
        self._fingerprint = content_id(fingerprint_of(source, revision), threshold)
        self._pipeline: Any = None

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def detect(self, images: Sequence[Image], labels: Sequence[str]) -> list[list[Detection]]:
        inputs = [{"image": decoded(image), "candidate_labels": list(labels)} for image in images]
        with at_device():
            still_needed(self)
            if self._pipeline is None:
                load_on_device(self, self._load)
            answers = self._pipeline(inputs, threshold=self._threshold, batch_size=self._batch_size)
        return [[_detection(item) for item in answer] for answer in answers]

    def let_go(self) -> None:
        """Drop the weights; the next call loads them again."""
        self._pipeline = None

    def _load(self) -> None:
        self._pipeline = _load(self._source, self._revision)


def _detection(item: dict[str, Any]) -> Detection:
    box = item["box"]
    return Detection(item["label"], (box["xmin"], box["ymin"], box["xmax"], box["ymax"]), float(item["score"]))


def _load(source: str, revision: str | None) -> Any:
    import torch
    import transformers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return transformers.pipeline(
            "zero-shot-object-detection", model=source, revision=revision, device=device, backend="pil"
        )
    except (OSError, ValueError, ImportError) as error:
        raise FatalError(f"The detector {source} cannot be loaded: {error}") from error
