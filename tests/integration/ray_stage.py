"""A stage whose worker dies or hangs when a row tells it to; importable by Ray's workers."""

import hashlib
import os
import signal
import time
import uuid
from pathlib import Path

import ray

from storage.records.rejection import Rejection
from storage.records.tables import from_table
from storage.stage import BatchResult


class Accident:
    """Rows with `detail` `die` kill the process each time, `die once` and `hang once` the first time only."""

    def __init__(self, folder: str, seconds: float) -> None:
        self._folder, self._seconds = Path(folder), seconds
        self._note("loads", str(os.getpid()))

    def _note(self, kind: str, text: str) -> None:
        (self._folder / kind).mkdir(parents=True, exist_ok=True)
        (self._folder / kind / uuid.uuid4().hex).write_text(text)

    def _first_time(self, key: str) -> bool:
        mark = self._folder / f"seen-{hashlib.sha256(key.encode()).hexdigest()}"
        if mark.exists():
            return False
        mark.touch()
        return True

    def run_shard(self, shard):
        rows = from_table(shard, Rejection)
        node = ray.get_runtime_context().get_node_id() if ray.is_initialized() else "here"
        self._note("runs", f"{rows[0].key} {node}")
        for row in rows:
            if row.detail == "die" or (row.detail == "die once" and self._first_time(row.key)):
                os.kill(os.getpid(), signal.SIGKILL)
            if row.detail == "hang once" and self._first_time(row.key):
                time.sleep(600)
        time.sleep(self._seconds)
        return BatchResult([Rejection(r.key, "", hashlib.sha256(r.key.encode()).hexdigest(), "") for r in rows])
