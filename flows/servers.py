"""The servers that a workspace works with: those that are configured, or its own on this machine."""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from annotation import server
from annotation.client import connect
from annotation.settings import AnnotationSettings
from flows.engine.progress import report_progress
from flows.prefect_server import start_server, stop_server
from storage.errors import FatalError

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio


def local_server(root: str, settings: AnnotationSettings) -> server.Server:
    """The workspace's own server, started if need be; raises FatalError for a workspace on S3."""
    if root.startswith("s3://"):
        raise FatalError(
            "A workspace on S3 needs annotation.url in the config; only a local one starts its own server."
        )
    return server.start(
        root,
        port=settings.port,
        executable=settings.executable,
        timeout_s=settings.start_timeout_s,
        progress=partial(report_progress, "studio"),
        database=os.environ.get(settings.database_env, ""),
    )


def studio_client(root: str, settings: AnnotationSettings) -> "LabelStudio":
    """A client of the configured server, or of the workspace's own."""
    if settings.url is None:
        running = local_server(root, settings)
        return connect(running.url, running.token)
    token = os.environ.get(settings.token_env, "")
    if not token:
        raise FatalError(
            f"Set {settings.token_env} to your access token for {settings.url} (Account & Settings there)."
        )
    return connect(settings.url, token)


def start_servers(root: str, settings: AnnotationSettings) -> None:
    """Start the workspace's Prefect server and, unless the settings name another, its Label Studio, or find them
    running. Raises FatalError for a workspace on S3, and where one of them does not start."""
    if "://" in root:
        raise FatalError(
            "Only a local workspace has servers of its own. For one on S3, start Label Studio and a Prefect server "
            "(docs/deploy.md), and set annotation.url and PREFECT_API_URL."
        )
    with ThreadPoolExecutor() as pool:  # each takes up to a minute
        starting: list[Future[object]] = [pool.submit(start_server, root)]
        if settings.url is None:
            starting.append(pool.submit(local_server, root, settings))
        for one in starting:
            one.result()


def stop_servers(root: str) -> dict[str, bool]:
    """End both; the answer says of each whether it ran."""
    return {"Label Studio": server.stop(root), "Prefect": stop_server(root)}
