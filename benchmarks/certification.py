"""Certification per megapixel, against scikit-image's SSIM on the full image, in one run.

    PYTHONPATH=. OMP_NUM_THREADS=1 python benchmarks/certification.py [--megapixels 1 4 12] [--rounds 3]

A photograph is enlarged to each size and a region of it repainted. A composited pair differs inside the mask only; a
free pair differs everywhere, as after an editor's codec. CPU time is compared.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from PIL import Image as PilImage
from rich.console import Console
from rich.table import Table
from skimage import data
from skimage.color import rgb2gray
from skimage.metrics import structural_similarity

from editing.masks import composite, feather
from editing.measure import Pair, measure
from storage.images import Rgb
from storage.records.editing import Edit

FEATHER_PX = 3
EDIT = Edit(
    "e", "i", "o", "0" * 16, "x", "f", "remove", 0, 0, ("blade",), ("blade",), "m", "editor", 1, 1, "0" * 16, None, (),
    None, (),
)  # fmt: skip


def pair_of(megapixels: float, free: bool) -> Pair:
    """A photograph of about that many pixels, and its edit."""
    width = round((megapixels * 1e6 * 1.5) ** 0.5)
    height = round(width / 1.5)
    photo = PilImage.fromarray(data.chelsea()).resize((width, height), PilImage.Resampling.BICUBIC)
    original: Rgb = np.asarray(photo)
    mask = np.zeros((height, width), dtype=np.bool_)
    mask[height // 3 : height // 2, width // 3 : width // 2] = True
    noise = np.random.default_rng(0).integers(-2, 3, original.shape, dtype=np.int8)
    edited = np.clip(original + noise, 0, 255).astype(np.uint8)
    edited[mask] = 128
    stored = feather(mask, FEATHER_PX) > 0
    return Pair(original, edited if free else composite(original, edited, mask, FEATHER_PX), stored)


def full_ssim(pair: Pair) -> None:
    structural_similarity(
        rgb2gray(pair.original), rgb2gray(pair.edited), data_range=1.0, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip


def cpu_seconds(work: Callable[[Pair], object], pair: Pair, rounds: int) -> float:
    spent = []
    for _ in range(rounds):
        began = time.process_time()
        work(pair)
        spent.append(time.process_time() - began)
    return float(np.median(spent))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megapixels", type=float, nargs="+", default=[1, 4, 12])
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    table = Table("megapixels", "pair", "certificate, ms/MP", "full SSIM, ms/MP", "ratio")
    for megapixels in args.megapixels:
        for free in (False, True):
            pair = pair_of(megapixels, free)
            ours = cpu_seconds(lambda p: measure(p, EDIT, (), feather_px=FEATHER_PX), pair, args.rounds)
            theirs = cpu_seconds(full_ssim, pair, args.rounds)
            size = pair.mask.size / 1e6
            table.add_row(
                f"{size:.1f}", "free" if free else "composited", f"{1000 * ours / size:.1f}",
                f"{1000 * theirs / size:.1f}", f"{ours / theirs:.2f}",
            )  # fmt: skip
    Console().print(table)


if __name__ == "__main__":
    main()
