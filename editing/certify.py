"""Certify: measure what an edit changed, and keep only what the measurements support. Then select."""

from collections.abc import Sequence
from dataclasses import replace

import imagehash
import numpy as np
import pyarrow as pa

from editing.locate import LocateRequest, Locator, attributes_of
from editing.masks import Alpha, feather
from editing.preservation import VISIBLE, measure_outside
from editing.settings import CertifySettings
from storage.errors import SampleError
from storage.images import Mask, Rgb, decode_mask, decode_stored
from storage.records import Certificate, Edit, Rejection, from_table
from storage.stage import BatchResult, in_batches, reject
from storage.workspace import Workspace

CERTIFY_VERSION = 1
SELECT_VERSION = 1


def measure(
    original: Rgb, edited: Rgb, mask: Mask, alpha: Alpha, after: Sequence[str], phash_bits: int, rechecked: bool
) -> Certificate:
    """The numbers of one edit. Images uint8 (height, width, 3) of one shape, `mask` bool, `alpha` from `feather`."""
    difference = np.abs(original.astype(np.int16) - edited.astype(np.int16)).max(axis=2)
    outside = alpha == 0
    preserved = measure_outside(original, edited, outside, difference)
    return Certificate(
        outside_max_abs_diff=int(difference[outside].max(initial=0)),
        outside_ssim=preserved.ssim,
        inside_changed_ratio=float((difference[mask] > VISIBLE).mean()) if mask.any() else 0.0,
        mask_area_ratio=float(mask.mean()),
        phash_distance=phash_bits,
        attributes_after=tuple(after),
        rechecked=rechecked,
        outside_changed_ratio=preserved.changed_ratio,
        outside_psnr_db=preserved.psnr_db,
        shift_px=preserved.shift_px,
        zoom=preserved.zoom,
    )


def judge(edit: Edit, certificate: Certificate, painted_max: int, cfg: CertifySettings) -> tuple[str, ...]:
    """The reason codes against an edit, the gravest first; empty means accepted.

    `painted_max` is the brightest channel value inside the mask, 0..255.
    """
    before, after = set(edit.attributes_before), set(certificate.attributes_after)
    targets = set(edit.target_attributes)
    checks = (
        ("black_output", painted_max < cfg.black_below),
        ("shifted", certificate.shift_px > cfg.max_shift_px or abs(certificate.zoom - 1) > cfg.max_zoom),
        ("outside_changed", _damaged(edit, certificate, cfg)),
        ("unchanged", edit.kind == "remove" and certificate.inside_changed_ratio < cfg.min_inside_changed),
        ("target_still_there", bool(targets & after)),
        ("neutral_lost", bool((before - targets) - after)),
        ("new_attribute", bool(after - before)),
    )
    return tuple(code for code, failed in checks if failed)


def _damaged(edit: Edit, certificate: Certificate, cfg: CertifySettings) -> bool:
    """Whether the scene outside the mask was touched more than the edit's mode allows."""
    if edit.composited:
        return certificate.outside_max_abs_diff > 0
    return (
        certificate.outside_ssim < cfg.min_outside_ssim
        or certificate.outside_changed_ratio > cfg.max_outside_changed_ratio
    )


def certify_batch(
    batch: Sequence[Edit], *, workspace: Workspace, locator: Locator | None, feather_px: int, cfg: CertifySettings
) -> BatchResult[Edit]:
    """Measure and judge each candidate. Both verdicts go on: a rejected candidate is a negative worth keeping.

    Without a locator nobody looks again: what the image shows after is what it showed before less the targets.
    """
    edited = [decode_stored(workspace.blobs.get(edit.edited_id)) for edit in batch]
    ok: list[Edit] = []
    rejected: list[Rejection] = []
    answers: Sequence[tuple[str, ...] | SampleError]
    if locator is None:
        answers = [tuple(a for a in e.attributes_before if a not in e.target_attributes) for e in batch]
    else:
        found = locator.locate([LocateRequest(rgb) for rgb in edited])
        answers = [a if isinstance(a, SampleError) else attributes_of(a) for a in found]
    for edit, rgb, after in zip(batch, edited, answers, strict=True):
        if isinstance(after, SampleError):
            rejected.append(reject(edit, edit.edit_id, after))
        else:
            ok.append(_certified(edit, rgb, after, workspace, feather_px, cfg))
    return BatchResult(ok, rejected)


def _certified(
    edit: Edit, rgb: Rgb, after: Sequence[str], workspace: Workspace, feather_px: int, cfg: CertifySettings
) -> Edit:
    original = decode_stored(workspace.blobs.get(edit.original_blob))
    mask = decode_mask(workspace.blobs.get(edit.mask))
    bits = imagehash.hex_to_hash(edit.original_phash) - imagehash.hex_to_hash(edit.phash)
    certificate = measure(original, rgb, mask, feather(mask, feather_px), after, int(bits), cfg.recheck != "none")
    reasons = judge(edit, certificate, int(rgb[mask].max(initial=0)), cfg)
    removed = sorted(set(edit.attributes_before) - set(certificate.attributes_after))
    return replace(
        edit,
        certificate=certificate,
        attributes_removed=tuple(removed),
        verdict="rejected" if reasons else "accepted",
        reasons=reasons,
    )


class CertifyStage:
    """Candidates to certified candidates. Rows are conserved by `edit_id`."""

    def __init__(
        self, root: str, locator: Locator | None, feather_px: int, cfg: CertifySettings, batch_size: int
    ) -> None:
        self._workspace = Workspace.open(root)
        self._locator = locator
        self._feather_px = feather_px
        self._cfg = cfg
        self._batch_size = batch_size

    def run_shard(self, shard: pa.Table) -> BatchResult[Edit]:
        return in_batches(from_table(shard, Edit), self._step, key=lambda edit: edit.edit_id, size=self._batch_size)

    def _step(self, batch: Sequence[Edit]) -> BatchResult[Edit]:
        return certify_batch(
            batch, workspace=self._workspace, locator=self._locator, feather_px=self._feather_px, cfg=self._cfg
        )


class SelectStage:
    """Certified candidates to one accepted edit per image and kind; where there is none, the reason is kept."""

    def run_shard(self, shard: pa.Table) -> BatchResult[Edit]:
        candidates: dict[tuple[str, str], list[Edit]] = {}
        for edit in from_table(shard, Edit):
            candidates.setdefault((edit.image_id, edit.kind), []).append(edit)
        ok: list[Edit] = []
        rejected: list[Rejection] = []
        for (image_id, _), edits in candidates.items():
            ranked = sorted(edits, key=lambda edit: (len(edit.reasons), edit.candidate))
            best = ranked[0]
            if best.verdict == "accepted":
                ok.append(best)
            else:
                detail = f"{', '.join(best.reasons)} in the best of {len(edits)} candidate(s)"
                rejected.append(reject(best, image_id, SampleError(best.reasons[0], detail)))
        return BatchResult(ok, rejected)
