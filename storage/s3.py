"""A workspace's bytes in an S3 bucket, with credentials, region and endpoint from the usual AWS chain."""

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO, Any
from urllib.parse import urlsplit

import stamina

from storage.errors import FatalError, TransientError
from storage.store import Entry

PART_BYTES = 16 * 1024 * 1024  # larger objects go in parts of this size; S3 takes at most 10,000 of them
_PARALLEL = 16  # reads in flight
_PARALLEL_PARTS = 4
_ATTEMPTS = 6
_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 20.0  # as long as boto3's own


class _BrokenOffError(TransientError):
    """An answer that began and did not end."""


class S3Store:
    """A prefix in a bucket. May be shared by threads."""

    readers = _PARALLEL

    def __init__(self, url: str) -> None:
        import boto3
        from botocore.config import Config

        parts = urlsplit(url)
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        # Retries with growing, random pauses, for time-outs, dropped connections, throttling and 5xx answers.
        config = Config(retries={"mode": "standard", "max_attempts": _ATTEMPTS}, max_pool_connections=2 * _PARALLEL)
        # A session of its own: boto3's default one would keep the first credentials that it saw.
        self._client: Any = boto3.session.Session().client("s3", config=config)

    @property
    def root(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}/{key}".lstrip("/")}

    def exists(self, key: str) -> bool:
        try:
            with self._plain_errors():
                self._client.head_object(**self._at(key))
        except FileNotFoundError:
            return False
        return True

    def read(self, key: str) -> bytes:
        return self._read(**self._at(key))

    def open(self, key: str) -> IO[bytes]:
        return io.BytesIO(self.read(key))

    def read_tail(self, key: str, size_bytes: int) -> bytes:
        return self._read(**self._at(key), Range=f"bytes=-{size_bytes}")

    def _read(self, **what: str) -> bytes:
        """The bytes of an object."""
        with self._plain_errors():
            return self._whole_answer(**what)

    @stamina.retry(
        on=_BrokenOffError, attempts=_ATTEMPTS, timeout=None, wait_initial=_PAUSE_S, wait_max=_LONGEST_PAUSE_S
    )
    def _whole_answer(self, **what: str) -> bytes:
        """boto3 repeats a request until its answer begins; one that breaks off is our care."""
        from botocore.exceptions import HTTPClientError, IncompleteReadError

        body = self._client.get_object(**what)["Body"]
        try:
            data: bytes = body.read()
        except (HTTPClientError, IncompleteReadError) as error:
            raise _BrokenOffError(f"S3 does not answer for {self.root} ({error}).") from error
        return data

    def write(self, key: str, data: bytes | IO[bytes], *, overwrite: bool = False, durable: bool = True) -> bool:
        """What is written once goes in one conditional put (S3 takes 5 GB): not every server that speaks S3 lets one
        writer win when parts are put together. What may be replaced goes in parts when it is large."""
        if not isinstance(data, bytes):
            data.seek(0)
        try:
            with self._plain_errors():
                if overwrite:
                    self._replace(key, data if isinstance(data, bytes) else data.read())
                else:
                    self._client.put_object(**self._at(key), Body=data, IfNoneMatch="*")
        except FileExistsError:  # somebody else wrote it, or is writing it
            return False
        return True

    def sync(self) -> None:
        """What S3 has taken is safe."""

    def _replace(self, key: str, data: bytes) -> None:
        if len(data) > PART_BYTES:
            self._write_parts(key, data)
        else:
            self._client.put_object(**self._at(key), Body=data)

    def _write_parts(self, key: str, data: bytes) -> None:
        """Parts in parallel; the object appears when they are put together."""
        upload = {**self._at(key), "UploadId": self._client.create_multipart_upload(**self._at(key))["UploadId"]}
        starts = range(0, len(data), PART_BYTES)
        whole = memoryview(data)

        def send(number: int) -> dict[str, Any]:
            start = starts[number - 1]
            body = bytes(whole[start : start + PART_BYTES])
            return {
                "PartNumber": number,
                "ETag": self._client.upload_part(**upload, PartNumber=number, Body=body)["ETag"],
            }

        try:
            with ThreadPoolExecutor(_PARALLEL_PARTS) as pool:
                parts = list(pool.map(send, range(1, len(starts) + 1)))
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except BaseException:  # its parts would cost money for ever
            self._client.abort_multipart_upload(**upload)
            raise

    def delete(self, key: str) -> None:
        with self._plain_errors():
            self._client.delete_object(**self._at(key))

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        skip = len(self._at("")["Key"])
        with self._plain_errors():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._at(prefix)["Key"]
            )
            for page in pages:
                for item in page.get("Contents", []):
                    modified_ns = int(item["LastModified"].timestamp() * 1_000_000_000)
                    yield Entry(item["Key"][skip:], item["Size"], modified_ns)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return (entry.key for entry in self.entries(prefix))

    def share(self, key: str, expires_s: int) -> str:
        """A URL that lets anybody who has it read `key` until it expires."""
        with self._plain_errors():
            return str(self._client.generate_presigned_url("get_object", Params=self._at(key), ExpiresIn=expires_s))

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        """S3's answers in our terms: missing and taken keys as Python's own errors, the rest as a sentence.

        boto3 has retried what may pass by itself before an error comes here.
        """
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            ConnectionError,
            HTTPClientError,
            IncompleteReadError,
        )

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
        except (ConnectionError, HTTPClientError, IncompleteReadError) as error:
            raise TransientError(f"S3 does not answer for {self.root} ({error}).") from error
        except BotoCoreError as error:
            raise FatalError(f"S3 cannot be used for {self.root}: {error}. Check region and credentials.") from error
