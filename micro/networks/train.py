"""Trains the three micro networks and writes their folders.

    python -m micro.networks.train vlm|vlm-again|rewriter|inpaint|all --out micro/weights --work DIR

Deterministic by seed on one kind of machine. Stop it at any time and start it again: it goes on
from the last checkpoint in --work.
"""

import argparse
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import transformers

from micro import WEIGHTS
from micro.networks import inpaint, rewriter, vlm


def _vlm(work: Path, out: Path) -> None:
    path = vlm.train(work, vlm.VlmRun())
    vlm.export(torch.load(path, weights_only=True)["ema"], out)


def _vlm_again(work: Path, out: Path) -> None:
    """A second run that starts from the folder's own weights, at half the rate, on other scenes."""
    folder = out.with_name("vlm")
    run = vlm.VlmRun(steps=1200, seed=2, lr=1e-3, ema=0.995, dense_steps=0, start=folder)
    vlm.export(torch.load(vlm.train(work / "again", run), weights_only=True)["ema"], folder)


def _rewriter(work: Path, out: Path) -> None:
    rewriter.export(rewriter.train(work, rewriter.RewriterRun()), out)


def _inpaint(work: Path, out: Path) -> None:
    inpaint.export(inpaint.train(work, inpaint.InpaintRun()), out)


_PARTS: dict[str, Callable[[Path, Path], None]] = {
    "rewriter": _rewriter,
    "inpaint": _inpaint,
    "vlm": _vlm,
    "vlm-again": _vlm_again,
}


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the micro networks.")
    parser.add_argument("part", choices=[*_PARTS, "all"])
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(args.threads)
    for name in _PARTS if args.part == "all" else [args.part]:
        _PARTS[name](args.work, args.out / name)


if __name__ == "__main__":
    main()
