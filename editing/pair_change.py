"""What differs between two pictures of a pair that somebody else made, and where, without a mask.

A codec, a resize and a camera's noise leave the mean colour of a block and the detail in it nearly as they were, in
every block of the picture. An edit stands out from that. So blocks are compared once the pictures lie over each other
and a cast of colour is taken out.

Thresholds were set on the marked photographs of tests/photographs; benchmarks/audit.py measures on others.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from editing.detail_kept import agreement
from editing.inside import measure_inside
from editing.masks import Box, parts, resize_mask, resize_rgb
from editing.registration import register
from storage.images import Mask, Rgb
from storage.reasons import reasons_against

_SIDE_PX = 1024  # pictures are compared at this size at most
_SAME_ASPECT = 0.02
_BLOCK_PX = 16
_LEVELS = 8.0  # of 255, of a block's mean; JPEG of quality 50 and noise of 12 levels stayed below 6.5
_DETAIL = 9.0  # variance of a block's detail in levels squared, below which nothing can be told
_UNLIKE = 0.5  # correlation of two blocks' detail
_SPECK_PX = 9  # what is narrower is no region
_GAP_PX = 33  # regions so near are one
_LEAST_SHARE = 0.0005  # of the picture
_FIELDS = 4  # along each side, to see how widely changes are spread
_FIELD_SHARE = 0.05

_MOVED_PX = 0.5  # of pictures at the size at which they are compared; unmoved ones showed 0.2 at most
_SURELY_MOVED_PX = 0.8
_CAST = 2.5  # levels of 255 by which colours differ on average; JPEG of quality 50 reached 0.9
_EVERYWHERE = 0.5  # of the picture changed
_SPREAD = 0.9  # of its fields
_LOST = 0.5  # of the blocks with detail; where fewer lost it, a change everywhere is one of colour
_MOST_KEPT = 1.0  # `detail_kept` inside a mask, as in CertifySettings
_MOST_KEPT_UNMASKED = 2.0  # the places that changed are known less exactly
_MOST_OUTSIDE = 0.002  # of the picture, changed outside a mask that came with the pair


@dataclass(frozen=True)
class Change:
    """`regions` are boxes in pixels of the original, and the regions cover `changed_share` of it. `shift_px` is also in
    pixels of the original. `cast` is how far colours differ on average over the picture, in levels of 255.

    `detail_kept` is what `editing.inside` says of the regions, or of the mask; None where it cannot be told. Of a pair
    that came with a mask, `outside_share` is the share of the picture that changed outside it.
    """

    identical: bool = False
    mirrored: bool = False
    shift_px: float = 0.0
    zoom: float = 1.0
    cast: float = 0.0
    changed_share: float = 0.0
    spread: float = 0.0
    regions: tuple[Box, ...] = ()
    detail_kept: float | None = None
    outside_share: float | None = None
    moved: bool = False


def measure_pair(original: Rgb, edited: Rgb, mask: Mask | None = None) -> Change:
    """Compare two pictures, uint8 (height, width, 3) of any two shapes. `mask` is bool, of any shape, and says where
    the edit was meant to be."""
    if original.shape == edited.shape and np.array_equal(original, edited):
        return Change(identical=True, outside_share=None if mask is None else 0.0)
    first, second = _brought_together(original, edited)
    found = register(first, second)
    laid, there = _still(first, second)
    moved = found.mirrored or found.shift_px > _MOVED_PX
    if moved and found.matrix is not None:
        back = found.undone(second, (first.shape[0], first.shape[1]))
        if found.shift_px < _SURELY_MOVED_PX:  # a few points may be that far off, so the pictures must say so, too
            moved = _likeness(first, *back) > _likeness(first, laid, back[1])
        laid, there = back if moved else (laid, there)
    expected, cast = _with_cast(first, laid, there)
    coloured, redrawn, detailed = _differing(expected, laid, there)
    changed = _without_specks(coloured | redrawn)
    region = _regions(changed)
    if _everywhere(float(region.mean()), _spread(region)) and redrawn.sum() < _LOST * detailed.sum():
        # Detail stayed, so colours changed by another curve than the one that was taken out.
        cast = max(cast, float(np.abs(first.astype(np.int16) - laid)[there].mean()))
        changed = _without_specks(redrawn)
        region = _regions(changed)
    scale = original.shape[1] / first.shape[1], original.shape[0] / first.shape[0]
    # Of what was found by its difference, what lies between changed places was not meant to go.
    wanted = region & (changed > 0) if mask is None else resize_mask(mask, (first.shape[1], first.shape[0]))
    return Change(
        mirrored=found.mirrored,
        shift_px=found.shift_px * scale[0] if moved else 0.0,
        zoom=found.zoom if moved else 1.0,
        moved=moved,
        cast=cast,
        changed_share=float(region.mean()),
        spread=_spread(region),
        regions=tuple(_scaled(box, scale) for box in parts(region)),
        detail_kept=measure_inside(expected, laid, wanted, 0).detail_kept if region.any() else None,
        outside_share=None if mask is None else float((region & ~_grown(wanted)).mean()),
    )


def judge_pair(change: Change) -> tuple[str, ...]:
    """The reason codes that the pixels give against a pair, the gravest first."""
    if change.identical:
        return reasons_against(("pair_untouched", True))
    everywhere = _everywhere(change.changed_share, change.spread)
    local = bool(change.regions) and not everywhere
    most_kept = _MOST_KEPT_UNMASKED if change.outside_share is None else _MOST_KEPT
    kept = (change.detail_kept or 0.0) > most_kept
    found = reasons_against(
        ("pair_regenerated", everywhere and not kept),
        ("pair_moved", change.moved),
        ("pair_recoloured", kept if everywhere else change.cast > _CAST),
        ("pair_outside_mask", local and (change.outside_share or 0.0) > _MOST_OUTSIDE),
        ("pair_target_left", local and kept),
    )
    return found or reasons_against(("pair_reencoded", not local))


def _everywhere(changed_share: float, spread: float) -> bool:
    return changed_share > _EVERYWHERE or spread > _SPREAD


def _brought_together(original: Rgb, edited: Rgb) -> tuple[Rgb, Rgb]:
    """Both at one size where they have one shape of frame, the smaller of the two, and no larger than is needed."""
    sizes = np.array([[rgb.shape[1], rgb.shape[0]] for rgb in (original, edited)])
    aspects = sizes[:, 0] / sizes[:, 1]
    if abs(aspects[0] / aspects[1] - 1) <= _SAME_ASPECT:
        sizes[:] = sizes[sizes[:, 0].argmin()]
    scales = np.minimum(1.0, _SIDE_PX / sizes.max(axis=1, keepdims=True))
    (width, height), (other_width, other_height) = np.maximum(1, np.rint(sizes * scales)).astype(int).tolist()
    return resize_rgb(original, (width, height)), resize_rgb(edited, (other_width, other_height))


def _still(first: Rgb, second: Rgb) -> tuple[Rgb, Mask]:
    """The second picture at the first one's size, and that it can be compared everywhere."""
    return resize_rgb(second, (first.shape[1], first.shape[0])), np.ones(first.shape[:2], np.bool_)


def _likeness(first: Rgb, second: Rgb, there: Mask) -> float:
    """How well the detail of two pictures agrees where both have pixels: the median of its blocks, -1 to 1."""
    correlation, variance = agreement(first, second)
    seen = correlation[(variance > _DETAIL) & there]
    return float(np.median(seen)) if len(seen) else 0.0


def _with_cast(first: Rgb, second: Rgb, there: Mask) -> tuple[Rgb, float]:
    """The first picture in the second one's cast of colour, and how strong that is in levels.

    A cast is a gain and an offset of each channel. They are fitted to the blocks that they explain best, three fifths
    of all, so that an edit has no say.
    """
    size = max(1, first.shape[1] // _BLOCK_PX), max(1, first.shape[0] // _BLOCK_PX)

    def blocks(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.float64)

    known = blocks(there.astype(np.uint8) * 255) == 255
    before, after = blocks(first)[known], blocks(second)[known]
    gain: npt.NDArray[np.float64] = np.ones(3)
    offset: npt.NDArray[np.float64] = np.zeros(3)
    for _ in range(8 if len(before) >= 8 else 0):
        error = np.abs(after - (before * gain + offset)).max(axis=1)
        best = error <= np.quantile(error, 0.6)
        gain, offset = _line(before[best], after[best])
    expected = np.clip(np.rint(first * gain + offset), 0, 255).astype(np.uint8)
    return expected, float(np.abs(expected.astype(np.int16) - first).mean(axis=(0, 1)).max())


def _line(
    before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Gain and offset of each channel by least squares, leaning towards a gain of 1 where colours hardly vary."""
    middle, other = before.mean(axis=0), after.mean(axis=0)
    spread = before - middle
    gain = ((spread * (after - other)).sum(axis=0) + len(before)) / ((spread**2).sum(axis=0) + len(before))
    return gain, other - gain * middle


def _differing(before: Rgb, after: Rgb, there: Mask) -> tuple[Mask, Mask, Mask]:
    """Where the mean colour of blocks differs, where their detail does, and where there is detail."""
    means = (cv2.boxFilter(rgb.astype(np.float32), -1, (_BLOCK_PX, _BLOCK_PX)) for rgb in (before, after))
    coloured = np.abs(next(means) - next(means)).max(axis=2) > _LEVELS
    correlation, variance = agreement(before, after)
    seen = cv2.erode(there.astype(np.uint8), np.ones((_BLOCK_PX, _BLOCK_PX), np.uint8)) > 0
    detailed = (variance > _DETAIL) & seen
    return coloured & seen, detailed & (correlation < _UNLIKE), detailed


def _without_specks(changed: Mask) -> npt.NDArray[np.uint8]:
    plane: npt.NDArray[np.uint8] = cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_OPEN, _disc(_SPECK_PX))
    return plane


def _regions(changed: npt.NDArray[np.uint8]) -> Mask:
    """Changed places (1), near ones joined, their holes filled, and the smallest left out."""
    joined = cv2.morphologyEx(np.pad(changed, _GAP_PX), cv2.MORPH_CLOSE, _disc(_GAP_PX))[
        _GAP_PX:-_GAP_PX, _GAP_PX:-_GAP_PX
    ]
    contours, _ = cv2.findContours(joined, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    least = max(_BLOCK_PX**2, _LEAST_SHARE * changed.size)
    drawn = np.zeros(changed.shape, np.uint8)
    cv2.drawContours(drawn, [one for one in contours if cv2.contourArea(one) >= least], -1, 1, cv2.FILLED)
    return drawn.astype(np.bool_)


def _disc(side: int) -> npt.NDArray[np.uint8]:
    disc: npt.NDArray[np.uint8] = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return disc


def _grown(mask: Mask) -> Mask:
    """A mask with the blocks that it touches."""
    grown: Mask = cv2.dilate(mask.astype(np.uint8), _disc(2 * _BLOCK_PX + 1)) > 0
    return grown


def _spread(region: Mask) -> float:
    """Share of the picture's fields in which something changed."""
    fields = cv2.resize(region.astype(np.float32), (_FIELDS, _FIELDS), interpolation=cv2.INTER_AREA)
    return float((fields > _FIELD_SHARE).mean())


def _scaled(box: Box, scale: tuple[float, float]) -> Box:
    x0, y0, x1, y1 = box
    return round(x0 * scale[0]), round(y0 * scale[1]), round(x1 * scale[0]), round(y1 * scale[1])
