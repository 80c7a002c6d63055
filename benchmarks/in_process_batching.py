"""Captions in this process: batched against one by one, on the micro model.

    PYTHONPATH=. python benchmarks/in_process_batching.py [--images 64] [--batch 16]

Both ways run the same requests through `TransformersChat`, in turns, after one that loads the model; the answers have
to be the same. Prints images per second of each, the ratio, and how often the texts differ.
"""

import argparse
import statistics
import time

import torch
from PIL import Image

from micro import WEIGHTS
from micro.scenes import draw_scene, scene_size
from micro.wording import prompt
from models.chat import ChatRequest
from models.transformers_chat import TransformersChat


def captions(model: TransformersChat, requests: list[ChatRequest], size: int) -> tuple[list[str], float]:
    """The answers to all requests, `size` at a time, and the seconds that they took."""
    began = time.perf_counter()
    texts = [r.text for i in range(0, len(requests), size) for r in model.generate(requests[i : i + size])]
    return texts, time.perf_counter() - began


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    model = TransformersChat(str(WEIGHTS / "vlm"), batch_size=args.batch)
    scenes = [draw_scene(n, split="heldout", size=scene_size(n)) for n in range(60_000, 60_000 + args.images)]
    requests = [ChatRequest(prompt("caption"), (Image.fromarray(scene.image),), 128) for scene in scenes]
    captions(model, requests[: args.batch], args.batch)
    batched, alone = [], []
    differ = 0
    for _ in range(args.rounds):  # in turns, so that a busy machine slows both
        texts, seconds = captions(model, requests, len(requests))
        batched.append(seconds)
        single, seconds = captions(model, requests, 1)
        alone.append(seconds)
        differ = sum(a != b for a, b in zip(texts, single, strict=True))
    quick, slow = statistics.median(batched), statistics.median(alone)
    print(f"batches of up to {args.batch}: {args.images / quick:.1f} images/s")  # noqa: T201
    print(f"one by one: {args.images / slow:.1f} images/s")  # noqa: T201
    print(f"batched over one by one: {slow / quick:.2f} times the speed; {differ} of {args.images} texts differ")  # noqa: T201


if __name__ == "__main__":
    main()
