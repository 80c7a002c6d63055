"""Where a workspace's bytes live: keys to bytes, on a local folder or in an S3 bucket.

A key appears only whole, and a key written without `overwrite` is written once: of two writers one wins. It is safe
from a loss of power when `write` returns; what is written with `durable=False`, when `sync` does.
"""

import ctypes
import io
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from storage.errors import FatalError

_TEMPORARY = ".tmp-"
_SYNCFS = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)  # Linux: syncs one file system


@dataclass(frozen=True, slots=True)
class Entry:
    """A key as a listing shows it."""

    key: str
    size_bytes: int
    modified_ns: int


class Store(Protocol):
    """Bytes by key. Keys are relative POSIX paths."""

    readers: int  # how many reads at once pay off

    @property
    def root(self) -> str:
        """The folder's absolute path or `s3://bucket/prefix`."""
        ...

    def exists(self, key: str) -> bool: ...

    def read(self, key: str) -> bytes:
        """The bytes at `key`; raises FileNotFoundError."""
        ...

    def open(self, key: str) -> IO[bytes]:
        """What `read` gives, as a file that can be read from any place; raises FileNotFoundError."""
        ...

    def read_tail(self, key: str, size_bytes: int) -> bytes:
        """The last `size_bytes` bytes at `key`, or all of them; raises FileNotFoundError."""
        ...

    def write(self, key: str, data: bytes | IO[bytes], *, overwrite: bool = False, durable: bool = True) -> bool:
        """Store `data` whole, of a file all that it holds. Without `overwrite` an existing key stays as it is and the
        answer is False."""
        ...

    def sync(self) -> None:
        """Wait until all that was written is safe from a loss of power."""
        ...

    def delete(self, key: str) -> None:
        """Remove `key`; one that is not there is no error."""
        ...

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Every key that starts with `prefix`, sorted, with its size and time."""
        ...

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Every key that starts with `prefix`, sorted."""
        ...


class LocalStore:
    """A folder. Files are written beside their place, then linked or renamed into it."""

    readers = 1

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder).absolute()

    @property
    def root(self) -> str:
        return str(self._folder)

    def exists(self, key: str) -> bool:
        return (self._folder / key).is_file()

    def read(self, key: str) -> bytes:
        return (self._folder / key).read_bytes()

    def open(self, key: str) -> IO[bytes]:
        return (self._folder / key).open("rb")

    def read_tail(self, key: str, size_bytes: int) -> bytes:
        with (self._folder / key).open("rb") as file:
            file.seek(-min(size_bytes, os.fstat(file.fileno()).st_size), os.SEEK_END)
            return file.read()

    def write(self, key: str, data: bytes | IO[bytes], *, overwrite: bool = False, durable: bool = True) -> bool:
        path = self._folder / key
        if path.exists() and not overwrite:
            return False
        try:
            handle, temporary = _beside(path)
        except OSError as error:
            raise FatalError(f"Cannot write to {path.parent}: {error.strerror}. Choose another place.") from error
        try:
            with os.fdopen(handle, "wb") as file:
                if isinstance(data, bytes):
                    file.write(data)
                else:
                    data.seek(0)
                    shutil.copyfileobj(data, file)
                os.fchmod(file.fileno(), 0o644)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            if not overwrite:
                written = _link(temporary, path)
            else:
                os.replace(temporary, path)
                written = True
            if durable:
                for folder in (path.parent, path.parent.parent):  # the second: the first may be new
                    _fsync_folder(folder)
            return written
        except OSError as error:
            raise FatalError(f"Cannot write {path}: {error.strerror}. Make room, or choose another place.") from error
        finally:
            Path(temporary).unlink(missing_ok=True)

    def sync(self) -> None:
        """Once for many files: several times as fast as a sync of each."""
        if not self._folder.is_dir():
            return
        handle = os.open(self._folder, os.O_RDONLY)
        try:
            if _SYNCFS is None:
                os.sync()
            elif _SYNCFS(handle) != 0:
                raise FatalError(f"Cannot write to {self.root}: {os.strerror(ctypes.get_errno())}. Check the disk.")
        finally:
            os.close(handle)

    def delete(self, key: str) -> None:
        (self._folder / key).unlink(missing_ok=True)

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        for key in self.keys(prefix):
            stat = (self._folder / key).stat()
            yield Entry(key, stat.st_size, stat.st_mtime_ns)

    def keys(self, prefix: str = "") -> Iterator[str]:
        if not self._folder.is_dir():
            return iter(())
        start = self._folder / prefix
        base = start if start.is_dir() else start.parent
        found = (p.relative_to(self._folder).as_posix() for p in base.rglob("*") if p.is_file())
        return iter(sorted(k for k in found if k.startswith(prefix) and not Path(k).name.startswith(_TEMPORARY)))


def _beside(path: Path) -> tuple[int, str]:
    """A new file in the same folder, which is there in all cases but the first."""
    try:
        return tempfile.mkstemp(dir=path.parent, prefix=_TEMPORARY)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return tempfile.mkstemp(dir=path.parent, prefix=_TEMPORARY)


def _fsync_folder(folder: Path) -> None:
    """Make the names in a folder safe."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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


def write_named(store: Store, key: str, data: bytes | IO[bytes]) -> None:
    """Write a file whose name follows from its content. One that holds anything else is damaged, and is replaced; a
    server that keeps checksums of its own is not asked."""
    if store.write(key, data, durable=False) or store.readers > 1:
        return
    if not isinstance(data, bytes):
        data.seek(0)
        data = data.read()
    if store.read(key) != data:
        store.write(key, data, overwrite=True, durable=False)


def read_each(store: Store, keys: Iterable[str]) -> Iterator[bytes | OSError]:
    """The bytes of each key in order, or why there are none; side by side where the store is far away.

    At most `store.readers` answers wait for their turn.
    """

    def read(key: str) -> bytes | OSError:
        try:
            return store.read(key)
        except OSError as error:
            return error

    if store.readers == 1:
        yield from map(read, keys)
        return
    waiting: deque[Future[bytes | OSError]] = deque()
    with ThreadPoolExecutor(store.readers) as pool:
        for key in keys:
            waiting.append(pool.submit(read, key))
            if len(waiting) == store.readers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def read_many(store: Store, keys: Iterable[str]) -> Iterator[bytes]:
    """The bytes of each key in order; raises FileNotFoundError."""
    for data in read_each(store, keys):
        if isinstance(data, OSError):
            raise data
        yield data


def open_many(store: Store, keys: Iterable[str]) -> Iterator[IO[bytes]]:
    """As `read_many`, but as files: where the store is near, none is read ahead or as a whole."""
    if store.readers > 1:
        yield from map(io.BytesIO, read_many(store, keys))
        return
    for key in keys:
        with store.open(key) as file:
            yield file
