"""The numbers of one edit, and what they say against it."""

from dataclasses import dataclass

import numpy as np

from editing.inside import measure_inside
from editing.masks import around
from editing.preservation import VISIBLE, Outside, measure_outside
from editing.settings import CertifySettings
from models.perceptual import PerceptualDistance
from storage.images import Mask, Rgb
from storage.reasons import reasons_against
from storage.records.editing import Certificate, Edit


@dataclass(frozen=True)
class Pair:
    """An original and its edit, uint8 (height, width, 3) of one shape, and the bool (height, width) mask."""

    original: Rgb
    edited: Rgb
    mask: Mask


def measure(
    pair: Pair, edit: Edit, after: tuple[str, ...], *, feather_px: int, perceptual: PerceptualDistance | None = None
) -> Certificate:
    """What the pixels show. `after` is what the edited image shows.

    Inside is the mask, whose outermost `feather_px` are a blend, and outside all beyond it. Where the outside is
    identical only the mask and its surroundings are looked at, and the measures are exact all the same.
    """
    window = around(pair.mask, 0)
    outside = Outside(window, ~pair.mask[window])
    preserved = measure_outside(pair.original, pair.edited, outside)
    masked = pair.mask[window]
    before, now = pair.original[window][masked].astype(np.int16), pair.edited[window][masked].astype(np.int16)
    inside = measure_inside(pair.original, pair.edited, pair.mask, feather_px, traces=edit.kind == "remove")
    changed = np.abs(before - now).max(axis=-1, initial=0) > VISIBLE
    return Certificate(
        outside_max_abs_diff=preserved.max_abs_diff,
        outside_ssim=preserved.ssim,
        inside_changed_ratio=float(changed.mean()) if changed.size else 0.0,
        mask_area_ratio=float(pair.mask.mean()),
        phash_distance=(int(edit.original_phash, 16) ^ int(edit.phash, 16)).bit_count(),
        attributes_after=after,
        inside_brightest=inside.brightest,
        detail_kept=inside.detail_kept,
        flat_share=inside.flat_share,
        rough_share=inside.rough_share,
        seam_share=inside.seam_share,
        outside_changed_ratio=preserved.changed_ratio,
        outside_psnr_db=preserved.psnr_db,
        outside_worst_tile=preserved.worst_tile,
        shift_px=preserved.shift_px,
        zoom=preserved.zoom,
        outside_lpips=None if perceptual is None else _outside_lpips(pair, outside, preserved.max_abs_diff, perceptual),
    )


def _outside_lpips(pair: Pair, outside: Outside, worst: int, perceptual: PerceptualDistance) -> float:
    """LPIPS with the original's pixels inside on both sides, so that the edit itself does not count."""
    if worst == 0:
        return 0.0
    height, width = pair.mask.shape
    kept = outside.rows(0, height, width)[..., None]
    return perceptual.distance(pair.original, np.where(kept, pair.edited, pair.original))


def judge(edit: Edit, certificate: Certificate, settings: CertifySettings) -> tuple[str, ...]:
    """The reason codes that the pixels give against an edit, the gravest first.

    A moved picture is named before what it looks like elsewhere, since moving explains that. What an insertion leaves
    of the original around its thing, and the thing's own grain, say nothing against it.
    """
    repainted, filled = edit.kind != "roundtrip", edit.kind in ("remove", "sham")
    return reasons_against(
        ("black_output", certificate.inside_brightest < settings.black_below),
        ("shifted", certificate.shift_px > settings.max_shift_px or abs(certificate.zoom - 1) > settings.max_zoom),
        ("outside_changed", _damaged(edit, certificate, settings)),
        ("unchanged", repainted and certificate.inside_changed_ratio < settings.min_inside_changed),
        ("detail_kept", filled and _above(certificate.detail_kept, settings.max_detail_kept)),
        ("flat_fill", filled and _above(certificate.flat_share, settings.max_flat_share)),
        ("rough_fill", filled and _above(certificate.rough_share, settings.max_rough_share)),
        ("visible_seam", repainted and _above(certificate.seam_share, settings.max_seam_share)),
        ("new_text", edit.kind != "insert" and bool(certificate.new_text)),
    )


def _above(measured: float | None, most: float) -> bool:
    return measured is not None and measured > most


def _damaged(edit: Edit, certificate: Certificate, settings: CertifySettings) -> bool:
    """Whether the scene outside the mask was touched more than the edit's mode allows."""
    if edit.composited:
        return certificate.outside_max_abs_diff > 0
    distance, most = certificate.outside_lpips, settings.max_outside_lpips
    return (
        certificate.outside_ssim < settings.min_outside_ssim
        or certificate.outside_worst_tile > settings.max_outside_tile
        or (distance is not None and most is not None and distance > most)
    )
