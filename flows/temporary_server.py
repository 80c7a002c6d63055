"""Prefect's temporary server, which serves a command where no other server is named."""

import signal

from prefect.client.orchestration import get_client


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
