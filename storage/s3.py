"""A workspace's bytes in an S3 bucket, with credentials, region and endpoint from the usual AWS chain."""

import hashlib
import io
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import stamina

from storage.errors import FatalError, TransientError
from storage.store import Entry
from storage.transport import authorities, check_trusted

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

PART_BYTES = 16 * 1024 * 1024  # larger objects go in parts of this size; S3 takes at most 10,000 of them
_PARALLEL = 16  # reads in flight
_PARALLEL_PARTS = 4
_ATTEMPTS = 6
_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 20.0  # as long as boto3's own
_SILENCE_S = 60.0  # what a server may take to go on
_MAY_PASS = ("BadDigest", "IncompleteBody", "NoSuchUpload", "OperationAborted", "RequestTimeout")  # of 4xx
_PYTHON_ERRORS = {"NoSuchKey": FileNotFoundError, "PreconditionFailed": FileExistsError}
_MD5, _RANGE = re.compile(r"[0-9a-f]{32}"), re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class _AgainError(TransientError):
    """What boto3 does not repeat: an answer that is cut or is not S3's, and two conditional puts that met."""


_patiently = stamina.retry(
    on=_AgainError, attempts=_ATTEMPTS, timeout=None, wait_initial=_PAUSE_S, wait_max=_LONGEST_PAUSE_S
)


@cache
def _descriptions(data_path: str | None) -> Any:
    """What the AWS libraries know of their services. Each client would parse those megabytes of JSON anew."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


class S3Store:
    """A prefix in a bucket. May be shared by threads."""

    readers = _PARALLEL

    def __init__(self, url: str) -> None:
        from botocore.config import Config
        from botocore.session import Session

        parts = urlsplit(url)
        self._bucket, self._prefix = parts.netloc, parts.path.strip("/")
        # Retries with growing, random pauses, for time-outs, dropped connections, throttling and 5xx answers.
        config = Config(
            retries={"mode": "standard", "max_attempts": _ATTEMPTS}, max_pool_connections=2 * _PARALLEL,
            connect_timeout=_SILENCE_S, read_timeout=_SILENCE_S,
        )  # fmt: skip
        trusted = authorities()
        session = Session()  # of its own: one for all would keep the first credentials that it saw
        session.register_component("data_loader", _descriptions(session.get_config_variable("data_path")))
        self._client: Any = session.create_client(
            "s3", config=config, verify=os.environ.get("AWS_CA_BUNDLE") or trusted
        )

    @property
    def root(self) -> str:
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def _at(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}/{key}".lstrip("/")}

    def exists(self, key: str) -> bool:
        """Asked by a byte of it: an answer without a body, as HEAD has, does not say whether the bucket is there."""
        try:
            self._read(**self._at(key), Range="bytes=0-0")
        except FileNotFoundError:
            return False
        return True

    def read(self, key: str) -> bytes:
        return self._read(**self._at(key))

    def open(self, key: str) -> IO[bytes]:
        return io.BytesIO(self.read(key))

    def read_tail(self, key: str, size_bytes: int) -> bytes:
        return self._read(**self._at(key), Range=f"bytes=-{size_bytes}")

    @_patiently
    def _read(self, **what: str) -> bytes:
        """The bytes of an object, or of its range, of which an empty one has none. boto3 repeats a request until its
        answer begins; what follows is our care."""
        from botocore.exceptions import ClientError, FlexibleChecksumError, HTTPClientError, IncompleteReadError

        with self._plain_errors("NoSuchKey"):
            try:
                answer = self._client.get_object(**what)
            except ClientError as error:
                if error.response["Error"]["Code"] == "InvalidRange":
                    return b""
                raise
            try:
                data: bytes = answer["Body"].read()
            except (FlexibleChecksumError, HTTPClientError, IncompleteReadError) as error:
                raise _AgainError(f"S3 does not answer for {self.root} to the end ({error}).") from error
        if not self._is_whole(answer, data):
            raise _AgainError(f"What came from {self.root} for {what['Key']} is not what S3 keeps there.")
        return data

    def _is_whole(self, answer: Mapping[str, Any], data: bytes) -> bool:
        """Whether these are the bytes that S3 keeps. Its tag is their MD5, save for what was put together from parts
        (then it is longer) or encrypted with a key of somebody's own; it says nothing of a mere range."""
        tag: str = self._required(answer, "ETag").strip('"')
        first, last, total = 0, len(data) - 1, len(data)
        if place := _RANGE.fullmatch(answer.get("ContentRange", "")):
            first, last, total = map(int, place.groups())
        if len(data) != last - first + 1:
            return False
        own_key = answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer
        opaque = own_key or not _MD5.fullmatch(tag) or self._bucket.endswith("--x-s3")  # the last: a directory bucket
        return opaque or len(data) != total or hashlib.md5(data, usedforsecurity=False).hexdigest() == tag

    def _required(self, answer: Mapping[str, Any], name: str) -> Any:
        """A part that each of S3's answers has; a proxy's page does not."""
        if name not in answer:
            raise _AgainError(self._no_s3(f"no {name}"))
        return answer[name]

    def _no_s3(self, why: str) -> str:
        return f"What answers for {self.root} is not S3 ({why}). Check AWS_ENDPOINT_URL, and what stands before it."

    def write(self, key: str, data: bytes | IO[bytes], *, overwrite: bool = False, durable: bool = True) -> bool:
        """What is written once goes in one conditional put (S3 takes 5 GB): not every server that speaks S3 lets one
        writer win when parts are put together. What may be replaced goes in parts when it is large."""
        try:
            if overwrite:
                with self._plain_errors():
                    self._replace(key, data if isinstance(data, bytes) else _all_of(data))
            else:
                self._put(key, data, IfNoneMatch="*")
        except FileExistsError:  # somebody else wrote it
            return False
        return True

    @_patiently
    def _put(self, key: str, data: bytes | IO[bytes], **only: str) -> None:
        if not isinstance(data, bytes):
            data.seek(0)
        with self._plain_errors("PreconditionFailed" if only else ""):
            self._required(self._client.put_object(**self._at(key), Body=data, **only), "ETag")

    def sync(self) -> None:
        """What S3 has taken is safe."""

    def _replace(self, key: str, data: bytes) -> None:
        if len(data) > PART_BYTES:
            self._write_parts(key, data)
        else:
            self._put(key, data)

    def _write_parts(self, key: str, data: bytes) -> None:
        """Parts in parallel; the object appears when they are put together."""
        begun = self._client.create_multipart_upload(**self._at(key))
        upload = {**self._at(key), "UploadId": self._required(begun, "UploadId")}
        starts = range(0, len(data), PART_BYTES)
        whole = memoryview(data)

        def send(number: int) -> dict[str, Any]:
            start = starts[number - 1]
            body = bytes(whole[start : start + PART_BYTES])
            taken = self._client.upload_part(**upload, PartNumber=number, Body=body)
            return {"PartNumber": number, "ETag": self._required(taken, "ETag")}

        try:
            with ThreadPoolExecutor(_PARALLEL_PARTS) as pool:
                parts = list(pool.map(send, range(1, len(starts) + 1)))
            self._required(self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}), "ETag")
        except BaseException:  # its parts would cost money for ever
            self._client.abort_multipart_upload(**upload)
            raise

    def delete(self, key: str) -> None:
        with suppress(FileNotFoundError), self._plain_errors("NoSuchKey"):
            self._client.delete_object(**self._at(key))

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        skip, wanted = len(self._at("")["Key"]), self._at(prefix)["Key"]
        began = set[str]()  # what pages began with: a listing that comes back to one would never end
        with self._plain_errors():
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=wanted)
            for page in pages:
                self._required(page, "IsTruncated")
                items = page.get("Contents", [])
                keys = [self._required(item, "Key") for item in items]
                if began.intersection(keys) or not all(key.startswith(wanted) for key in keys):
                    raise TransientError(self._no_s3("it lists what nobody asked for"))
                began.update(keys[:1])
                for key, item in zip(keys, items, strict=True):
                    modified_ns = int(self._required(item, "LastModified").timestamp() * 1_000_000_000)
                    yield Entry(key[skip:], self._required(item, "Size"), modified_ns)

    def keys(self, prefix: str = "") -> Iterator[str]:
        return (entry.key for entry in self.entries(prefix))

    def share(self, key: str, expires_s: int) -> str:
        """A URL that lets anybody who has it read `key` until it expires."""
        with self._plain_errors():
            return str(self._client.generate_presigned_url("get_object", Params=self._at(key), ExpiresIn=expires_s))

    @contextmanager
    def _plain_errors(self, code: str = "") -> Iterator[None]:
        """S3's answers in our terms: `code`, one of S3's, as Python's own error, all others as a sentence.

        boto3 has retried what may pass by itself before an error comes here.
        """
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            ConnectionError,
            HTTPClientError,
            PaginationError,
        )
        from botocore.parsers import ResponseParserError

        try:
            yield
        except ClientError as error:
            if error.response["Error"]["Code"] == code:
                raise _PYTHON_ERRORS[code](self.root) from error
            raise self._plain(error) from error
        except (ConnectionError, HTTPClientError) as error:
            check_trusted(error, urlsplit(self._client.meta.endpoint_url).netloc)
            raise TransientError(f"S3 does not answer for {self.root} ({error}).") from error
        except (PaginationError, ResponseParserError, RecursionError) as error:  # the last: redirects in a circle
            raise TransientError(self._no_s3(type(error).__name__)) from error
        except BotoCoreError as error:
            raise FatalError(f"S3 cannot be used for {self.root}: {error}. Check region and credentials.") from error

    def _plain(self, error: "ClientError") -> Exception:
        """What an error of S3's means. One without a code of S3's, only with its HTTP status, is somebody else's."""
        status = int(error.response["ResponseMetadata"]["HTTPStatusCode"])
        code = error.response["Error"]["Code"]
        if code == "ConditionalRequestConflict":
            return _AgainError(f"Others write to {self.root} at the same moment.")
        if status == 429 or status >= 500 or code in _MAY_PASS:
            return TransientError(f"S3 is busy or broken at {self.root} ({code}).")
        if code.isdigit():
            return TransientError(self._no_s3(code))
        if code == "NoSuchBucket":
            return FatalError(f"There is no bucket {self._bucket}. Create it, or correct its name or AWS_ENDPOINT_URL.")
        if status in (301, 307):
            return FatalError(f"The bucket {self._bucket} is in another region. Set AWS_REGION to it ({code}).")
        return FatalError(f"S3 refuses {self.root} ({code}). Check the bucket's name and your credentials.")


def _all_of(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()
