"""How full a chat server's slots are kept, by callers that each ask a few requests at a time.

    PYTHONPATH=. OMP_NUM_THREADS=1 python benchmarks/slots.py [--slots 16] [--seconds 0.2] [--rounds 8]

A server on the loopback answers `--slots` requests at once, each in a fixed time. One, four and eight callers share one
model, as the stages and shards of a build do; together they have half as many requests again as there are slots. The
share is the time that the answers take, over the time that the slots were there, from a call's first request on. Prints
JSON.
"""

import argparse
import json
import sys
import threading
import time

from benchmarks.stand_ins import Slots, completion, serving
from models.chat import ChatRequest
from models.openai_chat import OpenAIChat
from models.settings import ServerSettings


def share(callers: int, slots: int, seconds: float, rounds: int) -> float:
    """Of the slots, how many were busy on average."""
    server = Slots(slots, seconds)

    def answer(*_: object) -> dict[str, object]:
        server.answer()
        return completion("yes")

    with serving(answer) as url:
        model = OpenAIChat("stand-in", ServerSettings(base_url=url, max_in_flight=slots + slots // 2))
        each = rounds * (slots + slots // 2) // callers
        asked = [[ChatRequest(f"{caller} {number}") for number in range(each)] for caller in range(callers)]
        threads = [threading.Thread(target=model.generate, args=(requests,)) for requests in asked]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wall_s = time.perf_counter() - started
        model.close()
    return server.busy_s / wall_s


def measure(slots: int, seconds: float, rounds: int) -> dict[str, float]:
    """The share by the number of callers."""
    return {f"{callers} callers": round(share(callers, slots, seconds, rounds), 3) for callers in (1, 4, 8)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--rounds", type=int, default=8)
    sys.stdout.write(json.dumps(measure(**vars(parser.parse_args()))) + "\n")


if __name__ == "__main__":
    main()
