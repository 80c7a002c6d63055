"""Stages that work at the same time: each in a thread of its own, those of one place in turns, none after a failure."""

import threading
from collections.abc import Callable
from contextvars import copy_context

from flows.engine.stage_rows import StageRows, StoppedError, reader_takes_turns


class SideBySide:
    """Stages at work. The first failure ends them all: shards at work are finished, and none begins."""

    def __init__(self) -> None:
        self.failures = list[BaseException]()
        self._threads = list[threading.Thread]()
        self._rows = list[StageRows]()
        self._turns = threading.Condition()
        self._queues: dict[str, list[str]] = {}  # stages that wait for a place, by its name

    def start(self, name: str, rows: StageRows, place: str, work: Callable[[Callable[[], None]], None]) -> None:
        """Let a stage work on its rows. `work` calls what it is given before it takes the place, and so waits until the
        stages that were started before it have left; the place "" is free for all."""
        self._rows.append(rows)
        self._queues.setdefault(place, []).append(name)
        context = copy_context()
        thread = threading.Thread(target=context.run, args=(self._work, name, rows, place, work), name=name)
        self._threads.append(thread)
        thread.start()

    def wait(self) -> None:
        """Until all have ended."""
        for thread in self._threads:
            thread.join()

    def fail(self, error: BaseException) -> None:
        """Remember why all end, and let nobody wait for more rows. Whoever sees an error again may report it again."""
        if error not in self.failures:
            self.failures.append(error)
        for rows in self._rows:
            rows.stop()

    def check_going(self) -> None:
        """Raises StoppedError after a failure."""
        if self.failures:
            raise StoppedError

    def _work(self, name: str, rows: StageRows, place: str, work: Callable[[Callable[[], None]], None]) -> None:
        reader_takes_turns.set(bool(place))
        try:
            work(lambda: self._wait_for_turn(name, place))
        except StoppedError:
            pass  # whoever failed says why
        except BaseException as error:  # noqa: BLE001  (handed to whoever waits)
            self.fail(error)
        finally:
            rows.stop()  # of a stage that was asked for after the failure, nobody else would say so
            with self._turns:
                self._queues[place].remove(name)
                self._turns.notify_all()

    def _wait_for_turn(self, name: str, place: str) -> None:
        if place:
            with self._turns:
                self._turns.wait_for(lambda: self._queues[place][0] == name)
        self.check_going()
