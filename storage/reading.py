"""Reading what strangers name: the kind and the size of a file first, its bytes afterwards.

What cannot be read costs its own row; only an account that S3 does not accept stops the build.
"""

import os
import stat
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from storage.errors import FatalError, SampleError
from storage.open_store import open_store
from storage.store import Store

T = TypeVar("T")
Read = bytes | Exception
NO_CAP = 2**63 - 1
S3 = "s3://"
_READERS = 16  # of objects that lie far away, at once
_NO_ACCESS = (  # S3's codes that are about the account or the place, so about every object
    "ExpiredToken InvalidAccessKeyId InvalidToken SignatureDoesNotMatch TokenRefreshRequired RequestTimeTooSkewed "
    "AuthorizationHeaderMalformed PermanentRedirect AccountProblem AllAccessDisabled NotSignedUp"
).split()


def too_many(size_bytes: int, max_bytes: int) -> SampleError:
    return SampleError("too_many_bytes", f"{size_bytes} bytes is more than the cap of {max_bytes}.")


def read_file(path: Path, max_bytes: int) -> bytes:
    """A file's bytes. Raises OSError, ValueError for a name that no file can have, or SampleError `not_a_file` for
    what would block or never end, `too_many_bytes`."""
    told = path.stat()
    if not stat.S_ISREG(told.st_mode):
        raise SampleError("not_a_file", f"It is {_kind(told.st_mode)}.")
    if told.st_size > max_bytes:
        raise too_many(told.st_size, max_bytes)
    with path.open("rb") as file:
        data = file.read(max_bytes + 1 if max_bytes < NO_CAP else -1)  # it may have grown
    if len(data) > max_bytes:
        raise too_many(len(data), max_bytes)
    return data


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def read_object(store: Store, key: str, max_bytes: int) -> bytes:
    """An object's bytes, of a larger one no more than tells that it is too large.

    Raises OSError or SampleError for what concerns this object alone, FatalError for what concerns them all.
    """
    try:
        data = store.read(key) if max_bytes == NO_CAP else store.read_tail(key, max_bytes + 1)
    except FileNotFoundError as error:
        raise FileNotFoundError("It is not there.") from error
    except FatalError as error:
        code = _code(error)
        if code is None or code in _NO_ACCESS:
            raise
        raise SampleError("unreadable", f"S3 refuses it ({code}).") from error
    if len(data) > max_bytes:
        raise SampleError("too_many_bytes", f"It has more bytes than the cap of {max_bytes}.")
    return data


def _code(error: FatalError) -> str | None:
    """What S3 said; None where it could not be asked at all."""
    cause = error.__cause__
    if type(cause).__name__ == "ParamValidationError":
        return "no such name is possible"
    response = getattr(cause, "response", None)
    return str(response["Error"]["Code"]) if response else None


def in_order(read: Callable[[T], bytes], items: Iterable[T], *, far: bool) -> Iterator[Read]:
    """What `read` gives for each, or why there is nothing; side by side where they are far away."""

    def one(item: T) -> Read:
        try:
            return read(item)
        except (OSError, ValueError, SampleError) as error:
            return error

    if not far:
        yield from map(one, items)
        return
    waiting: deque[Future[Read]] = deque()
    with ThreadPoolExecutor(_READERS) as pool:
        for item in items:
            waiting.append(pool.submit(one, item))
            if len(waiting) == _READERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class PathReader:
    """Reads images that a table or manifest in `folder` names by a path: below that folder, or below `root`."""

    def __init__(self, folder: Path, root: Path | None) -> None:
        self._folder = folder.absolute()
        near = [Path(os.path.normpath(place.absolute())) for place in (folder, root) if place is not None]
        self._roots = [*near, *(place.resolve() for place in near)]
        self._stores: dict[str, Store] = {}
        self._guard = threading.Lock()

    def place(self, name: str) -> Path:
        """Where a path leads; raises SampleError `outside_folder`, ValueError for a name that no file can have.

        A link below the folder is followed wherever it leads: whoever put it there may have it read.
        """
        path = Path(os.path.normpath(self._folder / name))
        if not (self._is_inside(path) or self._is_inside(path.resolve())):
            raise SampleError("outside_folder", f"{name} does not lie below {self._folder}.")
        return path

    def _is_inside(self, path: Path) -> bool:
        return any(path.is_relative_to(root) for root in self._roots)

    def read(self, name: str, max_bytes: int) -> bytes:
        """A file's bytes; raises what `place` and `read_file` raise."""
        return read_file(self.place(name), max_bytes)

    def read_anywhere(self, name: str, max_bytes: int) -> bytes:
        """As `read`, or of an object on S3, whose key is all that follows the bucket."""
        if not name.startswith(S3):
            return self.read(name, max_bytes)
        bucket, _, key = name.removeprefix(S3).partition("/")
        with self._guard:
            store = self._stores.get(bucket) or self._stores.setdefault(bucket, open_store(S3 + bucket))
        return read_object(store, key, max_bytes)
