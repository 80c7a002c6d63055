"""What can be read in a picture: optical character recognition by RapidOCR, whose weights are in its package."""

import threading
from typing import Any, Protocol

import numpy as np

from storage.errors import FatalError, install
from storage.images import Rgb

_LEAST_SCORE = 0.6  # of a line; below it RapidOCR guesses at texture


class TextReader(Protocol):
    """Reads the lines of text in a picture."""

    def lines(self, rgb: Rgb) -> list[str]: ...


class RapidReader:
    """PP-OCR through the `rapidocr` package (Apache-2.0); loaded by the first call.

    Raises FatalError when the package is not installed.
    """

    def __init__(self) -> None:
        self._engine: Any = None
        self._lock = threading.Lock()

    def lines(self, rgb: Rgb) -> list[str]:
        """The lines of text in a picture, uint8 (height, width, 3), in any order; it may lose the spaces in them."""
        with self._lock:
            if self._engine is None:
                self._engine = _load()
            found = self._engine(np.ascontiguousarray(rgb[..., ::-1]))  # it takes BGR
        return [text for text, score in zip(found.txts or (), found.scores or (), strict=True) if score >= _LEAST_SCORE]


def _load() -> Any:
    try:
        from rapidocr import RapidOCR
    except ImportError as error:
        raise FatalError(f"editing.certify.read_text needs an extra ({error}). Run {install('ocr')}.") from error
    return RapidOCR(params={"Global.log_level": "critical"})
