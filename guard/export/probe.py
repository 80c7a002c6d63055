"""The shortcut probe: can a classifier that sees no content tell the classes apart?

In a set of pairs the unsafe image is real and the safe one edited, so a guard may score by detecting edits. The probe
sees statistics that carry no meaning (noise, spectrum, JPEG grid, colour moments) and is cross-validated by family.
Its AUC for unsafe against safe should be near 0.5; far above, the set has a shortcut. Control edits bring it down.
How well the role alone (original or edited) tells them apart is what a perfect detector of edits would reach.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from guard.export.dataset import Dataset, ImageRow
from storage.records.ids import content_id

Pixels = Callable[[ImageRow], npt.NDArray[np.uint8]]
Vector = npt.NDArray[np.float64]

WARN_ABOVE = 0.6
MAX_IMAGES = 2000  # more would not narrow the interval enough to be worth the time
_MIN_FAMILIES = 10  # fewer give an interval that says nothing
_FOLDS = 5
_BOOTSTRAPS = 500
_BANDS = 8
_BLOCK_PX = 16
_GHOST_PX = 1024  # of each side; more of a picture costs seconds
_GHOSTS = (60, 75, 85, 95)  # qualities of JPEG


@dataclass(frozen=True)
class Auc:
    """Area under the ROC curve out of fold, with a 95 % interval by bootstrap over families."""

    value: float
    low: float
    high: float
    images: int
    families: int


@dataclass(frozen=True)
class Probe:
    """The probe's AUCs, None where the data are too few or of one class.

    `unsafe` tells unsafe from safe (the mean over the policies under which both occur), `edited` tells edited from
    original; `..._without_controls` leaves sham and round-trip images out. `role` tells unsafe from safe knowing only
    whether an image was edited, by policy id.
    """

    unsafe: Auc | None
    unsafe_without_controls: Auc | None
    edited: Auc | None
    edited_without_controls: Auc | None = None
    role: Mapping[str, Auc] = field(default_factory=dict)

    @property
    def warns(self) -> bool:
        """Whether the verdict can be guessed from traces of editing, or could be from the role alone."""
        guessed = [auc for auc in (self.unsafe, *self.role.values()) if auc is not None]
        return any(auc.value > WARN_ABOVE for auc in guessed)


def shortcut_probe(data: Dataset, pixels: Pixels, seed: int = 0) -> Probe:
    """Run the probe on the images of a Dataset; `pixels` gives an image as uint8 (height, width, 3)."""
    images = sorted(data.sorted_images(), key=lambda i: content_id(seed, i.image_id))[:MAX_IMAGES]
    images.sort(key=lambda i: i.order)
    return probe_of(
        np.array([statistics(pixels(image)) for image in images]),
        [image.family_id for image in images],
        [image.role for image in images],
        {policy.id: _verdicts(data, images, policy.id) for policy in data.policies},
        seed,
    )


def probe_of(
    features: Vector, families: Sequence[str], roles: Sequence[str], verdicts: Mapping[str, Vector], seed: int = 0
) -> Probe:
    """The probe on images that are given by their `statistics`, float64 (n, k), their families and roles (n), and by
    their verdicts under each policy, float64 (n): 1 unsafe, 0 safe, NaN unknown."""
    names = np.array(families)
    real = np.array([role in ("original", "edited") for role in roles], dtype=np.bool_)
    edited = np.array([role != "original" for role in roles], dtype=np.float64)
    every, targets = np.ones(len(names), dtype=np.bool_), list(verdicts.values())
    by_role = {
        policy_id: auc
        for policy_id, verdict in verdicts.items()
        if (auc := _mean_auc(edited[:, None], names, [verdict], every, seed)) is not None
    }
    return Probe(
        unsafe=_mean_auc(features, names, targets, every, seed),
        unsafe_without_controls=_mean_auc(features, names, targets, real, seed),
        edited=_mean_auc(features, names, [edited], every, seed),
        edited_without_controls=_mean_auc(features, names, [edited], real, seed),
        role=by_role,
    )


def _verdicts(data: Dataset, images: Sequence[ImageRow], policy_id: str) -> Vector:
    """1 unsafe, 0 safe, NaN where there is no consensus."""
    value = {"safe": 0.0, "unsafe": 1.0}
    labels = [data.matrix.get((image.image_id, policy_id)) for image in images]
    return np.array([value.get(label.verdict or "", np.nan) if label else np.nan for label in labels])


def statistics(rgb: npt.NDArray[np.uint8]) -> Vector:
    """Content-free statistics of an image, uint8 (height, width, 3) of any size, as one vector.

    Noise: moments of the residual of a 3x3 median filter (after Fridrich and Kodovsky 2012, much reduced). Spectrum:
    log power in radial bands relative to their mean. JPEG: steps across the 8-pixel grid over steps elsewhere
    (Wang, Sheikh and Bovik 2002). Colour: mean, deviation and skew of each channel. Blocks: how unlike each other the
    blocks of the image are in their noise and in what is left of earlier JPEGs (ghosts: Farid 2009), since an edit
    changes some of them only.
    """
    pixels = rgb.astype(np.float64)
    grey = pixels.mean(axis=2)
    residual = grey - ndimage.median_filter(grey, size=3)
    noise = [residual.std(), np.abs(residual).mean(), _standard_moment(residual, 4)]
    flat = pixels.reshape(-1, 3)
    colour = [*flat.mean(axis=0), *flat.std(axis=0), *(_standard_moment(channel, 3) for channel in flat.T)]
    blocks = [*_unlike(np.abs(residual)), *(v for quality in _GHOSTS for v in _unlike(_ghost(rgb, quality)))]
    return np.array([*noise, *_spectrum(grey), _grid(grey, 0), _grid(grey, 1), *colour, *blocks])


def _ghost(rgb: npt.NDArray[np.uint8], quality: int) -> Vector:
    """How far each pixel is from itself after one more JPEG of that quality; least where it had that quality."""
    sink, rgb = BytesIO(), rgb[:_GHOST_PX, :_GHOST_PX]
    Image.fromarray(rgb).save(sink, "JPEG", quality=quality)
    again = np.asarray(Image.open(sink).convert("RGB"), dtype=np.float64)
    distance: Vector = np.abs(again - rgb).mean(axis=2)
    return distance


def _unlike(plane: Vector) -> tuple[float, float]:
    """How far the lowest and the highest tenth of the blocks lie from the median, over it; zeros for one block."""
    height, width = (side // _BLOCK_PX * _BLOCK_PX for side in plane.shape)
    if not height or not width:
        return 0.0, 0.0
    blocks = plane[:height, :width].reshape(height // _BLOCK_PX, _BLOCK_PX, width // _BLOCK_PX, _BLOCK_PX)
    low, middle, high = np.quantile(blocks.mean(axis=(1, 3)), (0.1, 0.5, 0.9))
    return float((middle - low) / (middle + 1e-3)), float((high - middle) / (middle + 1e-3))


def _standard_moment(values: Vector, order: int) -> float:
    """Skew (3) or kurtosis (4); 0 for values that are all but equal."""
    deviation = values.std()
    if deviation < 1e-6:
        return 0.0
    return float((((values - values.mean()) / deviation) ** order).mean())


def _spectrum(grey: Vector) -> Vector:
    power = np.log1p(np.abs(np.fft.fft2(grey - grey.mean())))
    rows, columns = np.fft.fftfreq(grey.shape[0])[:, None], np.fft.fftfreq(grey.shape[1])[None, :]
    band = np.minimum((np.hypot(rows, columns) / 0.5 * _BANDS).astype(int), _BANDS - 1)
    sums = np.bincount(band.ravel(), power.ravel(), minlength=_BANDS)
    means: Vector = sums / np.maximum(np.bincount(band.ravel(), minlength=_BANDS), 1)
    centred: Vector = means - means.mean()
    return centred


def _grid(grey: Vector, axis: int) -> float:
    steps = np.abs(np.diff(grey, axis=axis)).mean(axis=1 - axis)
    on_grid = np.arange(len(steps)) % 8 == 7
    if not on_grid.any() or on_grid.all():
        return 1.0
    return float((steps[on_grid].mean() + 1e-6) / (steps[~on_grid].mean() + 1e-6))


def _mean_auc(
    features: Vector, families: npt.NDArray[np.str_], targets: Sequence[Vector], use: npt.NDArray[np.bool_], seed: int
) -> Auc | None:
    """The mean AUC over those targets that have both classes in enough families."""
    parts = []
    for target in targets:
        rows = use & ~np.isnan(target)
        classes = [len(set(families[rows & (target == value)])) for value in (0.0, 1.0)]
        if min(classes) >= _MIN_FAMILIES:
            scores = _out_of_fold(features[rows], target[rows], families[rows])
            parts.append((target[rows], scores, families[rows]))
    if not parts:
        return None
    from sklearn.metrics import roc_auc_score

    value = float(np.mean([roc_auc_score(truth, scores) for truth, scores, _ in parts]))
    names = np.unique(np.concatenate([groups for _, _, groups in parts]))
    low, high = _interval(parts, names, seed)
    return Auc(value, low, high, max(len(truth) for truth, _, _ in parts), len(names))


def _out_of_fold(features: Vector, target: Vector, families: npt.NDArray[np.str_]) -> Vector:
    """Scores for each row by a model that saw no member of its family. Ranks make folds comparable."""
    # Imported here: it takes longer than what most commands do that need no probe, such as `verify`.
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    scores = np.zeros(len(target))
    for train, test in GroupKFold(_FOLDS).split(features, target, families):
        if len(set(target[train])) < 2:
            continue
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
        model.fit(features[train], target[train])
        scores[test] = model.decision_function(features[test])
    return scores


def _interval(
    parts: Sequence[tuple[Vector, Vector, npt.NDArray[np.str_]]], names: npt.NDArray[np.str_], seed: int
) -> tuple[float, float]:
    """Percentiles 2.5 and 97.5 over resamples of whole families."""
    draw = np.random.default_rng(seed)
    position = {name: i for i, name in enumerate(names)}
    count = len(names)
    weights = np.stack(
        [np.bincount(draw.integers(0, count, count), minlength=count) for _ in range(_BOOTSTRAPS)]
    ).astype(float)
    drawn = [weighted_auc(truth, scores, weights[:, [position[g] for g in groups]]) for truth, scores, groups in parts]
    values = np.mean(drawn, axis=0)
    low, high = np.percentile(values[~np.isnan(values)], [2.5, 97.5])
    return float(low), float(high)


def weighted_auc(truth: Vector, scores: Vector, weights: Vector) -> Vector:
    """The area under the ROC curve under each row of `weights`, float64 [draws, n] for `truth` (0 or 1) and `scores`
    [n]: the share of weighted pairs of a 1 and a 0 that the scores order rightly, ties as half (Mann and Whitney
    1947). NaN where a class has no weight."""
    order = np.argsort(scores, kind="stable")
    starts = np.unique(scores[order], return_index=True)[1]
    ones = np.add.reduceat(weights[:, order] * (truth[order] == 1), starts, axis=1)
    zeros = np.add.reduceat(weights[:, order] * (truth[order] == 0), starts, axis=1)
    below = np.cumsum(zeros, axis=1) - zeros
    pairs = ones.sum(axis=1) * zeros.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(pairs > 0, (ones * (below + zeros / 2)).sum(axis=1) / pairs, np.nan)
