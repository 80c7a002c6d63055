"""What an image shows and where, and its edits with what was measured on them.

Boxes are `(x0, y0, x1, y1)` in pixels of the original image, `x1` and `y1` exclusive.
"""

from dataclasses import dataclass
from typing import ClassVar

from storage.records.verdicts import Decision, DerivedVerdict, EditKind


@dataclass(frozen=True, slots=True)
class Finding:
    """One region of an image and what it shows."""

    finding_id: str
    attributes: tuple[str, ...]
    rule_ids: tuple[str, ...]  # rules that the locator named itself, e.g. "L2.R1"
    box: tuple[int, ...]
    mask: str  # blob of a 1-bit PNG of the image's size, "" when only the box is known
    instruction: str  # what an editor is asked to do; "" where the locator did not say
    score: float  # the locator's confidence, 1.0 when it gives none


@dataclass(frozen=True, slots=True)
class Located:
    """Everything that a locator found in one image; `findings` may be empty."""

    SCHEMA_VERSION: ClassVar[int] = 2

    image_id: str
    attributes: tuple[str, ...]  # sorted union over the findings
    findings: tuple[Finding, ...]
    locator: str  # fingerprint of the model, "" where people marked the regions
    set_aside: tuple[str, ...] = ()  # labels that name nothing in the vocabulary


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model that sees an edited image said to a yes-or-no question about its `region` or the whole `image`."""

    question: str
    scope: str
    text: str
    passed: bool


@dataclass(frozen=True, slots=True)
class DerivedPair:
    """What one policy's rules say about an original and its edit."""

    policy_id: str
    before: DerivedVerdict
    after: DerivedVerdict
    rules_before: tuple[str, ...]  # the rules that make the original unsafe, or might
    rules_after: tuple[str, ...]

    @property
    def flips(self) -> bool:
        """The rules forbid one side and allow the other."""
        return {self.before, self.after} == {"safe", "unsafe"}


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was measured on one edit; `None` where a measure does not apply."""

    outside_max_abs_diff: int  # 0..255, over pixels outside the mask
    outside_ssim: float
    inside_changed_ratio: float  # share of masked pixels that changed by more than 8/255 in any channel
    mask_area_ratio: float  # masked share of the image
    phash_distance: int  # Hamming distance of the 64-bit perceptual hashes
    attributes_after: tuple[str, ...]  # what the edited image shows
    witness: str = ""  # fingerprint of who looked at the edited image; "" where this follows from what was asked for
    outside_changed_ratio: float = 0.0  # share of the pixels outside that changed by more than 8/255
    outside_worst_tile: float = 0.0  # levels of 255, in the tile of the coarse picture that differs most
    outside_psnr_db: float | None = None  # None when the pixels outside are identical
    shift_px: float = 0.0  # length of the translation that best aligns the two images
    zoom: float = 1.0  # scale that best aligns them
    inside_brightest: int = 255  # 0..255, of any channel
    detail_kept: float | None = None  # of the original, inside the mask; 0 is chance, 1 the most of honest fills
    flat_share: float | None = None  # of the mask, with less grain than anything around it
    rough_share: float | None = None  # of the mask, with more grain than anything around it
    seam_share: float | None = None  # of the mask's border, where a step shows
    new_text: tuple[str, ...] = ()  # words that can be read inside the mask and could not before
    outside_lpips: float | None = None  # None when nobody asked for it
    answers: tuple[Answer, ...] = ()  # to the questions of the settings; asked where nothing else speaks against it


@dataclass(frozen=True, slots=True)
class EditTask:
    """One image to be edited: the regions to repaint (the violating ones, neutral ones for a sham, a free place with
    what is to be put there for an insertion)."""

    SCHEMA_VERSION: ClassVar[int] = 2

    image_id: str
    blob: str
    family_id: str
    phash: str
    attributes: tuple[str, ...]  # what the image shows before
    targets: tuple[Finding, ...]
    kind: EditKind = "remove"
    shown: tuple[str, ...] = ()  # the attribute of each region, repeated where several show it
    locator: str = ""  # fingerprint
    prompt: str = ""  # what the hole should show; "" leaves it to the settings


@dataclass(frozen=True, slots=True)
class Edit:
    """One edited candidate. `edited` is the twin as an image of its own."""

    SCHEMA_VERSION: ClassVar[int] = 2

    edit_id: str
    image_id: str  # the original
    original_blob: str
    original_phash: str
    edited_id: str  # SHA-256 of the edited image's bytes, which are also its blob
    family_id: str  # that of the original
    kind: EditKind
    candidate: int  # 0-based
    seed: int
    attributes_before: tuple[str, ...]
    target_attributes: tuple[str, ...]  # what the editor was asked to remove, or to put in
    mask: str  # blob of what may differ, feather included: a 1-bit PNG of the image's size
    editor: str  # fingerprint
    width: int
    height: int
    phash: str
    certificate: Certificate | None
    attributes_removed: tuple[str, ...]
    verdict: Decision | None
    reasons: tuple[str, ...]
    composited: bool = True  # pixels outside the mask were taken from the original
    shown_before: tuple[str, ...] = ()  # by the locator: the attribute of each region, repeated where several show it
    locator: str = ""  # fingerprint
    derived: tuple[DerivedPair, ...] = ()  # one per policy, once the edit is selected
    own_size: bool = False  # the editor made its pictures in a size of its own; they were scaled to that asked for

    @property
    def blob(self) -> str:
        """The edited image's bytes; an edit is stored just as it was encoded."""
        return self.edited_id

    @property
    def attributes_added(self) -> tuple[str, ...]:
        """What the edited image shows and its original does not; nothing where it was not certified."""
        after = self.certificate.attributes_after if self.certificate else ()
        return tuple(sorted(set(after) - set(self.attributes_before)))
