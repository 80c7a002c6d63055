"""Prefect's temporary server, which serves a command where no other server is named."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings


def start_temporary_server() -> None:
    """Start it, if one is needed, so that Ctrl-C does not reach it. It ends with this process.

    A terminal signals every process of its group. A flow that is stopped tells the server so, and would ask one that
    died by the same signal for more than a minute. A child keeps the signals that its parent's thread had blocked.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        get_client(sync_client=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def serving_flows() -> Iterator[None]:
    """Run flows inside with that server, or with the one that is named.

    On the temporary one nobody looks at heartbeats. They cost: at each flow's end Prefect waits up to a second for the
    last of them, and a Ctrl-C in that second is lost.
    """
    unwatched = PREFECT_API_URL.value() is None
    with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None} if unwatched else {}):
        start_temporary_server()
        yield
