"""Which columns of a table of pairs hold what: those that an option names, or else the usual ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from storage.errors import FatalError

# The first of these columns that is there, where no option names one.
KNOWN: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "images", "original", "original_image", "input_image", "source_img", "unsafe_image"),
    "edited": ("edited", "edited_image", "image_edited", "target_img", "safe_image"),
    "path": ("image_path", "file_name", "path"),
    "mask": ("mask", "mask_image", "mask_img"),
    "policy": ("policy_name",),
}
_LABELS = ("safety_label", "label", "rating")
SPLIT = "split"
VARIANT = "policy_variant"  # of our own rows under changed policies, which say nothing of the policy itself


@dataclass(frozen=True)
class PairColumns:
    """Which columns hold what; None is the usual name, as far as it is there. `labels` may be several columns, one for
    each policy, and `edited_labels` those of the other side where a row is a pair. `suffix` is how the name of an
    edited picture ends, `root` a folder that paths may lead into."""

    image: str | None = None
    edited: str | None = None
    path: str | None = None
    mask: str | None = None
    policy: str | None = None
    labels: tuple[str, ...] = ()
    edited_labels: tuple[str, ...] = ()
    suffix: str = "_edited"
    root: Path | None = None


@dataclass(frozen=True)
class Layout:
    """The columns of one table that are read."""

    image: str
    edited: str | None
    path: str | None
    mask: str | None
    policy: str | None
    labels: tuple[str, ...]
    edited_labels: tuple[str, ...]
    others: tuple[str, ...]

    @property
    def told(self) -> list[str]:
        """All but the pictures."""
        named = (self.path, self.policy, *self.labels, *self.edited_labels, *self.others)
        return list(dict.fromkeys(name for name in named if name))

    @classmethod
    def of(cls, what: str, schema: pa.Schema, columns: PairColumns) -> "Layout":
        there = schema.names
        chosen = {name: _chosen(what, there, name, getattr(columns, name)) for name in KNOWN}
        if chosen["image"] is None:
            raise FatalError(
                f"{what} has no column of pictures that is known here ({', '.join(KNOWN['image'])}). It has "
                f"{', '.join(there)}. Name it with --image; where a row holds both sides, the other one with --edited."
            )
        labelled = cls.of_labels(what, there, columns)
        others = tuple(name for name in (SPLIT, VARIANT) if name in there)
        image = chosen.pop("image")
        return cls(str(image), chosen["edited"], chosen["path"], chosen["mask"], labelled.policy, labelled.labels,
                   labelled.edited_labels, others)  # fmt: skip

    @classmethod
    def of_labels(cls, what: str, there: Sequence[str], columns: PairColumns) -> "Layout":
        """Labels and policies alone."""
        labels = columns.labels or tuple(name for name in _LABELS if name in there)[:1]
        for name in columns.labels:
            _chosen(what, there, "label", name)
        edited = columns.edited_labels or tuple(n for label in labels for n in (f"edited_{label}",) if n in there)
        for name in columns.edited_labels:
            _chosen(what, there, "edited-label", name)
        if edited and len(edited) != len(labels):
            raise FatalError(f"{what}: there are {len(labels)} --label and {len(edited)} --edited-label; name as many.")
        policy = _chosen(what, there, "policy", columns.policy)
        return cls("", None, None, None, policy, labels, edited, ())


def _chosen(what: str, there: Sequence[str], option: str, named: str | None) -> str | None:
    """The column that an option names, or the first known one that is there."""
    if named is None:
        return next((name for name in KNOWN.get(option, ()) if name in there), None)
    if named not in there:
        raise FatalError(f"{what} has no column {named!r}. It has {', '.join(there)}. Correct --{option}.")
    return named
