"""A batch of cases in a child process that may not take more memory or time than a file deserves."""

import json
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.fuzz.readers import run_case

BATCH = 250
_MORE_BYTES = 3 * 2**30  # of addresses, beyond what the process has when it starts; threads set some aside
_PEAK_MIB = 1024  # of memory
_CASE_S = 20


def run_batch(kind: str, first: int, stop: int, seed: int) -> dict[str, Any]:
    """The cases from `first` to `stop`, as a line for people and for the next run; a child that dies costs one case."""
    failures: list[dict[str, Any]] = []
    started, peak, at = time.monotonic(), 0, first
    while at < stop:
        lines, status, peak_kib = _child(kind, at, stop, seed)
        failures += [line for line in lines if line["what"]]
        peak, at = max(peak, peak_kib), lines[-1]["case"] + 1 if lines else at
        if status:
            failures.append({"case": at, "what": f"killed by {signal.Signals(os.WTERMSIG(status)).name}"})
            at += 1
    if peak > _PEAK_MIB * 1024:
        failures.append({"case": first, "what": f"one of this batch took {peak // 1024} MiB"})
    seconds = round(time.monotonic() - started, 2)
    told = {"kind": kind, "seed": seed, "first": first, "stop": stop, "failures": failures}
    return told | {"seconds": seconds, "peak_mib": peak // 1024}


def _child(kind: str, first: int, stop: int, seed: int) -> tuple[list[dict[str, Any]], int, int]:
    """A line for each case that came to an end, how the child ended, and its peak memory in KiB."""
    with tempfile.TemporaryFile("w+") as told:
        child = os.fork()
        if not child:
            _run(kind, first, stop, seed, told.fileno())
        _, status, used = os.wait4(child, 0)
        told.seek(0)
        return [json.loads(line) for line in told], status, used.ru_maxrss


def _run(kind: str, first: int, stop: int, seed: int, told: int) -> None:
    """In the child; it ends here."""
    pa.set_memory_pool(pa.system_memory_pool())  # the others set addresses aside by the gigabyte
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _MORE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)  # it also ends what never comes back from C
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # what decoders print
    with tempfile.TemporaryDirectory() as folder:
        for number in range(first, stop):
            signal.alarm(_CASE_S)
            what = ""
            try:
                run_case(kind, number, seed, Path(folder))
            except BaseException as error:  # noqa: BLE001
                place = traceback.extract_tb(error.__traceback__)[-1]
                what = f"{type(error).__name__}: {str(error)[:200]!r} ({place.filename}:{place.lineno})"
            os.write(told, (json.dumps({"case": number, "what": what}) + "\n").encode())
    os._exit(0)
