"""Pretrains the micro guard that the miniature experiment starts from.

    python -m micro.networks.guard_base --work DIR [--out micro/weights/guard]

Stop it at any time and start it again: it goes on from the last checkpoint in --work.
"""

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

from guard.contract.prompt import CAPTION_QUESTION, question
from micro import GUARD
from micro.networks import guard
from micro.networks.guard_tokenizer import GuardPrompts


def prompts() -> GuardPrompts:
    """The production prompts, cut at the policy."""
    before, after = question("\0").split("\0")
    return GuardPrompts(before, after, CAPTION_QUESTION)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Pretrain the micro guard.")
    parser.add_argument("--out", type=Path, default=GUARD)
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(args.threads)
    path = guard.pretrain(args.work, prompts(), guard.GuardRun())
    guard.export(torch.load(path, weights_only=True)["ema"], prompts(), args.out)


if __name__ == "__main__":
    main()
