"""Where a workspace's bytes live: keys to bytes, on a local folder or in an S3 bucket.

A key appears only whole, and a key written without `overwrite` is written once: of two writers one wins.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from storage.errors import FatalError, TransientError


class Store(Protocol):
    """Bytes by key. Keys are relative POSIX paths."""

    @property
    def root(self) -> str:
        """The folder's absolute path or `s3://bucket/prefix`."""
        ...

    def exists(self, key: str) -> bool: ...

    def read(self, key: str) -> bytes:
        """The bytes at `key`; raises FileNotFoundError."""
        ...

    def write(self, key: str, data: bytes, *, overwrite: bool = False) -> bool:
        """Store `data` whole. Without `overwrite` an existing key stays as it is and the answer is False."""
        ...

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Every key that starts with `prefix`, sorted."""
        ...


class LocalStore:
    """A folder. Files are written beside their place, then linked or renamed into it."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder).absolute()

    @property
    def root(self) -> str:
        return str(self._folder)

    def exists(self, key: str) -> bool:
        return (self._folder / key).is_file()

    def read(self, key: str) -> bytes:
        return (self._folder / key).read_bytes()

    def write(self, key: str, data: bytes, *, overwrite: bool = False) -> bool:
        path = self._folder / key
        if path.exists() and not overwrite:
            return False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
        except OSError as error:
            raise FatalError(f"Cannot write to {path.parent}: {error.strerror}. Choose another --workspace.") from error
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            os.chmod(temporary, 0o644)
            if overwrite:
                os.replace(temporary, path)
                return True
            return _link(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def keys(self, prefix: str = "") -> Iterator[str]:
        start = self._folder / prefix
        base = start if start.is_dir() else start.parent
        found = (p.relative_to(self._folder).as_posix() for p in base.rglob("*") if p.is_file())
        return iter(sorted(k for k in found if k.startswith(prefix) and not Path(k).name.startswith(".tmp-")))


class S3Store:
    """A prefix in an S3 bucket, with credentials, region and endpoint from the usual AWS chain."""

    def __init__(self, url: str) -> None:
        import boto3
        from botocore.config import Config

        parts = urlsplit(url)
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        # A session of its own: boto3's default one would keep the first credentials that it saw.
        self._client: Any = boto3.session.Session().client(
            "s3", config=Config(retries={"mode": "standard", "max_attempts": 5})
        )

    @property
    def root(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{key}".lstrip("/")

    def exists(self, key: str) -> bool:
        try:
            with self._plain_errors():
                self._client.head_object(Bucket=self._bucket, Key=self._key(key))
        except FileNotFoundError:
            return False
        return True

    def read(self, key: str) -> bytes:
        with self._plain_errors():
            data: bytes = self._client.get_object(Bucket=self._bucket, Key=self._key(key))["Body"].read()
        return data

    def write(self, key: str, data: bytes, *, overwrite: bool = False) -> bool:
        condition = {} if overwrite else {"IfNoneMatch": "*"}
        try:
            with self._plain_errors():
                self._client.put_object(Bucket=self._bucket, Key=self._key(key), Body=data, **condition)
        except FileExistsError:  # somebody else wrote it, or is writing it
            return False
        return True

    def keys(self, prefix: str = "") -> Iterator[str]:
        skip = len(self._key(""))
        with self._plain_errors():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._key(prefix)
            )
            for page in pages:
                yield from (item["Key"][skip:] for item in page.get("Contents", []))

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        """S3's answers in our terms: missing and taken keys as Python's own errors, the rest as a sentence.

        boto3 has retried what may pass by itself before an error comes here.
        """
        from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

        try:
            yield
        except ClientError as error:
            status = int(error.response["ResponseMetadata"]["HTTPStatusCode"])
            code = error.response["Error"]["Code"]
            if status == 404 and code != "NoSuchBucket":
                raise FileNotFoundError(self.root) from error
            if status in (409, 412):
                raise FileExistsError(self.root) from error
            if status == 429 or status >= 500:
                raise TransientError(f"S3 is busy or broken at {self.root} ({code}).") from error
            raise FatalError(
                f"S3 refuses {self.root} ({code}). Check the bucket's name and your credentials."
            ) from error
        except (ConnectionError, HTTPClientError) as error:
            raise TransientError(f"S3 does not answer for {self.root} ({error}).") from error
        except BotoCoreError as error:
            raise FatalError(f"S3 cannot be used for {self.root}: {error}. Check region and credentials.") from error


def _link(temporary: str, path: Path) -> bool:
    """Give the finished file its name unless the name is taken, which a rename would not notice."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links: two writers in the same instant are not told apart
        if path.exists():
            return False
        os.replace(temporary, path)
    return True


def open_store(root: str | Path) -> Store:
    """The store at a folder path or an `s3://bucket/prefix` URL."""
    if str(root).startswith("s3://"):
        return S3Store(str(root))
    return LocalStore(root)
