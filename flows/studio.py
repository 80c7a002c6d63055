"""Finding the Label Studio that a workspace works with: the one in the settings, or a local one of its own."""

import os
from functools import partial
from typing import TYPE_CHECKING

from annotation import server
from annotation.client import connect
from annotation.settings import AnnotationSettings
from flows.engine.progress import report_progress
from storage.errors import FatalError

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio


def local_server(root: str, settings: AnnotationSettings) -> server.Server:
    """The workspace's own server, started if need be; raises FatalError for a workspace on S3."""
    if root.startswith("s3://"):
        raise FatalError(
            "A workspace on S3 needs annotation.url in the config; only a local one starts its own server."
        )
    running = server.status(root)
    if running is not None:
        return running
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
