"""How fast a benchmark is asked over HTTP, against one request at a time.

python benchmarks/evaluation.py [--rows 600] [--slots 64] [--latency-s 0.2]

A server process on the loopback answers after a fixed time and serves a fixed number of requests at once, as a
batching server does. Measured: `guard.evaluation.evaluate` with `OpenAIChat`, from encoded images to scores with
bootstrap intervals, and then a loop that sends the same questions one by one, waits for each, and scores nothing.
The server always answers the same; whether its answers are right does not matter here.
"""

import argparse
import base64
import io
import time

import httpx
import numpy as np
from PIL import Image as Pillow

from benchmarks.captioning import running_server
from guard.contract.prompt import question
from guard.evaluation.evaluate import evaluate
from guard.evaluation.plan import EvaluateOptions
from guard.evaluation.tally import EvalRow
from micro.world import WORLD
from models.openai_chat import OpenAIChat
from models.settings import ServerSettings
from storage.records.ids import sha256_hex

Item = tuple[EvalRow, bytes]


def questions(count: int, side_px: int) -> list[Item]:
    """`count` rows: images of noise, each under the five policies, an original and its twin in turn."""
    policies = WORLD
    made: list[Item] = []
    for number in range(-(-count // len(policies))):
        pixels = np.random.default_rng(number).integers(0, 256, (side_px // 8, side_px // 8, 3), dtype=np.uint8)
        sink = io.BytesIO()
        Pillow.fromarray(pixels).resize((side_px, side_px)).save(sink, format="PNG")
        image, family = sink.getvalue(), f"f{number // 2}"
        role = "edited" if number % 2 else "original"
        for policy in policies:
            row_id = f"{number}-{policy.id}"
            label = "safe" if number % 2 else "unsafe"
            made.append(
                (
                    EvalRow(
                        row_id, sha256_hex(image), row_id, family, family, role, policy.id, policy.text,
                        label,  # type: ignore[arg-type]
                    ),
                    image,
                )
            )  # fmt: skip
    return made[:count]


def time_evaluate(url: str, items: list[Item], slots: int) -> float:
    """Seconds of the whole evaluation; one short one before it opens the connections and is not timed."""
    model = OpenAIChat("bench", ServerSettings(base_url=url, max_in_flight=slots))
    options = EvaluateOptions(batch_size=slots, threads=3, blind=False)
    evaluate(items[:slots], model, options)
    began = time.perf_counter()
    found = evaluate(items, model, options)
    seconds = time.perf_counter() - began
    model.close()
    assert len(found.rows) == len(items), found.left_out
    return seconds


def time_one_by_one(url: str, items: list[Item]) -> float:
    """Seconds for the questions alone, one blocking request after the other."""
    with httpx.Client(timeout=30) as client:
        began = time.perf_counter()
        for row, image in items:
            sink = io.BytesIO()
            Pillow.open(io.BytesIO(image)).convert("RGB").save(sink, format="JPEG", quality=95)
            uri = "data:image/jpeg;base64," + base64.b64encode(sink.getvalue()).decode()
            content = [
                {"type": "image_url", "image_url": {"url": uri}},
                {"type": "text", "text": question(row.policy)},
            ]
            body = {"model": "bench", "messages": [{"role": "user", "content": content}], "max_tokens": 512}
            client.post(f"{url}/chat/completions", json=body).raise_for_status()
        return time.perf_counter() - began


def main() -> None:
    """Prints seconds and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--latency-s", type=float, default=0.2)
    parser.add_argument(
        "--side-px", type=int, default=64, help="of the images; small, so that the codec does not count"
    )
    args = parser.parse_args()
    items = questions(args.rows, args.side_px)
    with running_server(args.slots, args.latency_s) as url:
        fast = time_evaluate(url, items, args.slots)
        slow = time_one_by_one(url, items)
    ceiling = args.latency_s * -(-args.rows // args.slots)
    print(f"evaluate: {fast:.2f} s for {args.rows} questions; the server's own floor is {ceiling:.2f} s")  # noqa: T201
    print(f"one by one: {slow:.2f} s")  # noqa: T201
    print(f"ratio: {slow / fast:.1f}")  # noqa: T201


if __name__ == "__main__":
    main()
