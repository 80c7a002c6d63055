"""Select: the best certified candidate of each image and kind, and what it means under every policy."""

from dataclasses import replace

import pyarrow as pa

from policies.engine import PolicySet
from storage.errors import SampleError
from storage.records.editing import DerivedPair, Edit
from storage.records.rejection import Rejection
from storage.records.tables import from_table
from storage.stage import BatchResult, reject


def quality_order(edit: Edit) -> tuple[float, ...]:
    """Sorts candidates of one image, the best first.

    Fewest reasons against it; then the scene best preserved (outside SSIM, then share of pixels changed outside, both
    equal among composited edits); then the pair that looks most alike as a whole (perceptual hash); then the order in
    which they were made.
    """
    certificate = edit.certificate
    if certificate is None:
        raise ValueError(f"Edit {edit.edit_id} was not certified.")
    return (
        len(edit.reasons),
        -certificate.outside_ssim,
        certificate.outside_changed_ratio,
        certificate.phash_distance,
        edit.candidate,
    )


def derive_pairs(edit: Edit, policies: PolicySet) -> tuple[DerivedPair, ...]:
    """What each policy's rules say about the original and about the edited image."""
    assert edit.certificate is not None
    pairs = []
    for policy in policies:
        before = policies.derive(policy, edit.attributes_before)
        after = policies.derive(policy, edit.certificate.attributes_after)
        pairs.append(DerivedPair(policy.id, before.verdict, after.verdict, before.rules, after.rules))
    return tuple(pairs)


class SelectStage:
    """Certified candidates to one accepted edit per image and kind; where there is none, the reason is kept.

    The other candidates stay where they are, in the table of the certify stage.
    """

    def __init__(self, policies: PolicySet) -> None:
        self._policies = policies

    def run_shard(self, shard: pa.Table) -> BatchResult[Edit]:
        candidates: dict[tuple[str, str], list[Edit]] = {}
        for edit in from_table(shard, Edit):
            candidates.setdefault((edit.image_id, edit.kind), []).append(edit)
        ok: list[Edit] = []
        rejected: list[Rejection] = []
        for (image_id, _), edits in candidates.items():
            best = min(edits, key=quality_order)
            if best.verdict == "accepted":
                ok.append(replace(best, derived=derive_pairs(best, self._policies)))
            else:
                detail = f"{', '.join(best.reasons)} in the best of {len(edits)} candidate(s)"
                rejected.append(reject(best, image_id, SampleError(best.reasons[0], detail)))
        return BatchResult(ok, rejected)
