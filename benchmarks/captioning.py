"""How close captioning over HTTP comes to the server's ceiling, and what it costs in memory.

PYTHONPATH=. python benchmarks/captioning.py [--rows 2000] [--slots 64] [--latency-s 0.2] [--in-flight 96]

A server process on the loopback answers after a fixed time and serves a fixed number of requests at once, as a
batching server does. Its ceiling for N rows is N x latency / slots. Measured in one run: the caption stage with
`OpenAIChat`, then, on fewer rows, a pool of eight threads with blocking requests. The images are small, so that the
client's own work counts, not the codec's. The client has half as many requests again in flight as the server has slots,
so that a slot finds its next request waiting while the client is kept from the processor. What no client can get back:
2,000 rows are 31.25 rounds of 64 slots, which take 32 (97.7 %).
"""

import argparse
import asyncio
import base64
import io
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.queues import Queue

import httpx
import numpy as np
import pyarrow as pa

from models.openai_chat import OpenAIChat
from models.settings import ServerSettings
from recaption.caption import CaptionStage
from recaption.settings import CaptionSettings
from storage.images import decode_stored, encode_png
from storage.records.images import Picture
from storage.records.tables import to_table
from storage.workspace import Workspace

PROMPT = "Describe the image in one sentence."
_REPLY = {
    "choices": [{"message": {"content": "A plain picture of one colour."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 40, "completion_tokens": 7},
}


def serve(address: "Queue[str]", slots: int, latency_s: float) -> None:
    """Answers every request after `latency_s`, `slots` of them at once."""
    payload = json.dumps(_REPLY).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(payload)}\r\n\r\n".encode()

    async def run() -> None:
        free = asyncio.Semaphore(slots)

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while True:
                    asked = await reader.readuntil(b"\r\n\r\n")
                    length = next(
                        int(line[15:]) for line in asked.lower().split(b"\r\n") if line[:15] == b"content-length:"
                    )
                    await reader.readexactly(length)
                    async with free:
                        await asyncio.sleep(latency_s)
                    writer.write(head + payload)
                    await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0, limit=1 << 20, backlog=512)
        address.put(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        await server.serve_forever()

    asyncio.run(run())


@contextmanager
def running_server(slots: int, latency_s: float) -> Iterator[str]:
    """The base URL of a server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    address: Queue[str] = context.Queue()
    process = context.Process(target=serve, args=(address, slots, latency_s), daemon=True)
    process.start()
    try:
        yield address.get(timeout=30)
    finally:
        process.terminate()
        process.join()


def images(workspace: Workspace, count: int) -> list[Picture]:
    """`count` images of 64 px, each of its own colour."""
    rows = []
    for number in range(count):
        shade = [number % 256, number // 256 % 256, 90]
        blob = workspace.blobs.put(encode_png(np.full((64, 64, 3), shade, dtype=np.uint8)))
        rows.append(Picture(blob, blob))
    return rows


@dataclass(frozen=True)
class Timing:
    """Wall and processor seconds per row, and peak memory in MiB, the latter after one shard and at the end."""

    seconds_per_row: float
    cpu_s_per_row: float
    early_mib: float
    end_mib: float


def peak_mib() -> float:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def time_stage(url: str, rows: list[Picture], workspace: Workspace, in_flight: int, shard_rows: int) -> Timing:
    """The caption stage over shards, two at a time; one more before them opens the connections and is not timed."""
    server = ServerSettings(base_url=url, max_in_flight=in_flight)
    model = OpenAIChat("bench", server)
    stage = CaptionStage(workspace, model, PROMPT, CaptionSettings(model="bench", server=server, max_new_tokens=64))
    stage.run_shard(to_table(rows[:in_flight], Picture))
    shards = [to_table(rows[start : start + shard_rows], Picture) for start in range(0, len(rows), shard_rows)]
    early: list[float] = []

    def caption(shard: pa.Table) -> None:
        done = stage.run_shard(shard)
        assert not done.rejected, done.rejected[0]
        early.append(peak_mib())

    began, cpu = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(2) as pool:  # the number of shards that a build has in flight
        list(pool.map(caption, shards))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    model.close()
    return Timing(seconds / len(rows), cpu / len(rows), early[0], peak_mib())


def time_threads(url: str, rows: list[Picture], workspace: Workspace, threads: int) -> float:
    """Seconds per row for a pool of threads, each with one blocking request at a time."""

    def caption(row: Picture) -> str:
        data = workspace.blobs.get(row.blob)
        decode_stored(data)
        uri = "data:image/png;base64," + base64.b64encode(io.BytesIO(data).getvalue()).decode()
        content = [{"type": "image_url", "image_url": {"url": uri}}, {"type": "text", "text": PROMPT}]
        body = {"model": "bench", "messages": [{"role": "user", "content": content}], "max_tokens": 64}
        answer = client.post(f"{url}/chat/completions", json=body).json()
        return str(answer["choices"][0]["message"]["content"])

    with httpx.Client(timeout=30) as client, ThreadPoolExecutor(threads) as pool:
        began = time.perf_counter()
        list(pool.map(caption, rows))
        return (time.perf_counter() - began) / len(rows)


def main() -> None:
    """Prints the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--in-flight", type=int, default=96, help="requests that the client has under way at most")
    parser.add_argument("--latency-s", type=float, default=0.2)
    parser.add_argument("--shard-rows", type=int, default=256, help="rows of one stage call")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root, running_server(args.slots, args.latency_s) as url:
        workspace = Workspace.open(root)
        rows = images(workspace, args.rows)
        ceiling = args.latency_s / args.slots
        stage = time_stage(url, rows, workspace, args.in_flight, args.shard_rows)
        pool = time_threads(url, rows[: max(8, args.rows // 10)], workspace, 8)
    print(f"caption stage: {ceiling / stage.seconds_per_row:.1%} of the ceiling of {1 / ceiling:.0f} rows/s")  # noqa: T201
    print(f"processor time: {stage.cpu_s_per_row * 1000:.1f} ms a row")  # noqa: T201
    print(f"peak memory after the first shard and at the end: {stage.early_mib:.0f} and {stage.end_mib:.0f} MiB")  # noqa: T201
    print(f"eight threads, blocking: {ceiling / pool:.1%} of the ceiling")  # noqa: T201
    print(f"caption stage over eight threads: {pool / stage.seconds_per_row:.1f} times the speed")  # noqa: T201


if __name__ == "__main__":
    main()
