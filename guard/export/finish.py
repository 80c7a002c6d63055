"""The last step of every exported image, the same on both sides of a pair: it hides by what means each was made.

An original was a JPEG and keeps its traces; what an editor painted has none. One more JPEG of lower quality than theirs
gives both the same ones. What is exported then differs from what a certificate measured, by that JPEG and nothing else.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow

from guard.export.dataset import Dataset, ImageRow
from guard.export.probe import Auc, Probe, shortcut_probe
from guard.export.settings import FinishStep

QUALITIES = (95, 90, 85, 75, 65)  # that `auto` tries, the gentlest first
ENOUGH = 0.55  # edits that a probe finds no better than so need no stronger step

Decode = Callable[[ImageRow], Pillow.Image]


@dataclass(frozen=True)
class Tried:
    """A step (the JPEG quality, None for none) and what the probe found after it."""

    quality: int | None
    edited: Auc | None
    unsafe: Auc | None


@dataclass(frozen=True)
class Finish:
    """The step that was chosen, the probe after it, and all that were tried."""

    quality: int | None
    probe: Probe
    tried: tuple[Tried, ...]


def finished(image: Pillow.Image, quality: int | None) -> Pillow.Image:
    """The 8-bit RGB image after one JPEG of that quality, 4:2:0; the image itself for None."""
    if quality is None:
        return image
    sink = io.BytesIO()
    image.save(sink, "JPEG", quality=quality, subsampling=2)
    again = Pillow.open(sink).convert("RGB")
    again.info = {}
    return again


def choose(data: Dataset, decode: Decode, step: FinishStep) -> Finish:
    """The probe before and after the step; `auto` takes the gentlest after which edits are hardly found, or else the
    one after which they are found least."""
    found: list[tuple[int | None, Probe]] = [(None, _probed(data, decode, None))]
    for quality in _asked_for(step):
        if step == "auto" and _trace(found[-1][1]) <= ENOUGH:
            break
        found.append((quality, _probed(data, decode, quality)))
    chosen = min(found, key=lambda one: _trace(one[1])) if step == "auto" else found[-1]
    return Finish(*chosen, tuple(Tried(quality, probe.edited, probe.unsafe) for quality, probe in found))


def _asked_for(step: FinishStep) -> tuple[int, ...]:
    if isinstance(step, int):
        return (step,)
    return QUALITIES if step == "auto" else ()


def _probed(data: Dataset, decode: Decode, quality: int | None) -> Probe:
    return shortcut_probe(data, lambda image: np.asarray(finished(decode(image), quality)))


def _trace(probe: Probe) -> float:
    """How well edits are found; a coin's toss where there are too few to say."""
    return 0.5 if probe.edited is None else probe.edited.value
