"""The store contract, run against a local folder and a real S3 server."""

import hashlib
import os
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
import stamina

from storage import s3
from storage.errors import FatalError, TransientError
from storage.open_store import open_store
from storage.s3 import S3Store
from storage.store import LocalStore, open_many, read_each, read_many


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.server)])
def store(request, tmp_path):
    if request.param == "local":
        return LocalStore(tmp_path / "root")
    bucket = request.getfixturevalue("s3_bucket")
    return S3Store(f"s3://{bucket}/{tmp_path.name}")


def test_what_is_written_is_read(store):
    assert store.write("a/b.bin", b"one")
    assert store.exists("a/b.bin")
    assert store.read("a/b.bin") == b"one"


def test_a_key_is_written_once_unless_told_otherwise(store):
    assert store.write("k", b"one")
    assert not store.write("k", b"two")
    assert store.read("k") == b"one"
    assert store.write("k", b"two", overwrite=True)
    assert store.read("k") == b"two"


@pytest.mark.parametrize("size_bytes", [3, 6 * 1024 * 1024])
def test_a_file_is_written_from_its_beginning_to_its_end(store, tmp_path, monkeypatch, size_bytes):
    monkeypatch.setattr(s3, "PART_BYTES", 5 * 1024 * 1024)
    data = os.urandom(size_bytes)
    (tmp_path / "file").write_bytes(data)
    with (tmp_path / "file").open("rb") as file:
        assert store.write("k", file)
        assert store.read("k") == data
        assert not store.write("k", file)
        assert store.write("k", file, overwrite=True)
    assert store.read("k") == data


def test_a_missing_key_is_missing(store):
    assert not store.exists("nothing/here")
    with pytest.raises(FileNotFoundError):
        store.read("nothing/here")


def test_keys_are_listed_by_prefix_in_order(store):
    for key in ("b/2", "b/1", "a/1", "bb/1"):
        store.write(key, b"x")
    assert list(store.keys("b/")) == ["b/1", "b/2"]
    assert list(store.keys()) == ["a/1", "b/1", "b/2", "bb/1"]


def test_a_listing_shows_sizes_and_times(store):
    store.write("a", b"123")
    (entry,) = store.entries()
    assert (entry.key, entry.size_bytes) == ("a", 3)
    assert entry.modified_ns > 1_700_000_000 * 1_000_000_000  # after 2023


def test_the_end_of_a_key_can_be_read_alone(store):
    store.write("k", b"0123456789")
    assert store.read_tail("k", 4) == b"6789"
    assert store.read_tail("k", 100) == b"0123456789"
    with pytest.raises(FileNotFoundError):
        store.read_tail("gone", 4)
    with store.open("k") as file:
        file.seek(6)
        assert file.read() == b"6789"
    with pytest.raises(FileNotFoundError):
        store.open("gone")


def test_many_keys_are_read_in_order(store):
    keys = [f"many/{number}" for number in range(40)]
    for key in keys:
        store.write(key, key.encode())
    assert list(read_many(store, keys)) == [key.encode() for key in keys]
    with pytest.raises(FileNotFoundError):
        list(read_many(store, [*keys, "gone"]))
    assert [file.read() for file in open_many(store, keys)] == [key.encode() for key in keys]
    with pytest.raises(FileNotFoundError):
        list(open_many(store, [*keys, "gone"]))
    each = list(read_each(store, ["gone", *keys]))
    assert isinstance(each[0], FileNotFoundError)
    assert each[1:] == [key.encode() for key in keys]


def test_a_deleted_key_is_gone_and_deleting_it_again_is_no_error(store):
    store.write("k", b"x")
    store.delete("k")
    store.delete("k")
    assert not store.exists("k")
    assert store.write("k", b"y")


def test_a_large_object_is_replaced_in_parts_and_written_once_in_one(store, monkeypatch):
    part = 5 * 1024 * 1024  # the least that S3 takes for a part that is not the last
    monkeypatch.setattr(s3, "PART_BYTES", part)
    data = os.urandom(2 * part + 17)
    assert store.write("large", data)
    assert store.read("large") == data
    assert not store.write("large", data[::-1])
    assert store.read("large") == data
    assert store.write("large", data[::-1], overwrite=True)
    assert store.read("large") == data[::-1]


@pytest.mark.parametrize("size_bytes", [1, 6 * 1024 * 1024])
def test_of_many_writers_one_wins(store, monkeypatch, size_bytes):
    monkeypatch.setattr(s3, "PART_BYTES", 5 * 1024 * 1024)
    wins = []
    barrier = threading.Barrier(4)

    def write(number: int) -> None:
        barrier.wait()
        if store.write("contested", str(number).encode() * size_bytes):
            wins.append(number)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(wins) == 1
    assert store.read("contested") == str(wins[0]).encode() * size_bytes


def test_no_temporary_file_stays_behind(tmp_path):
    store = LocalStore(tmp_path)
    store.write("k", b"x")
    store.write("k", b"y")
    assert [p.name for p in tmp_path.iterdir()] == ["k"]


def test_a_folder_that_cannot_be_written_is_a_plain_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(FatalError, match="Cannot write to"):
        LocalStore(tmp_path / "file").write("k", b"x")


def test_open_store_chooses_by_scheme(tmp_path):
    assert isinstance(open_store(tmp_path), LocalStore)


def test_a_file_system_without_hard_links_works(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("not supported")

    monkeypatch.setattr(os, "link", refuse)
    store = LocalStore(tmp_path)
    assert store.write("k", b"one")
    assert not store.write("k", b"two")
    assert [p.name for p in tmp_path.iterdir()] == ["k"]


@pytest.mark.server
def test_a_bucket_that_is_not_there_is_a_plain_sentence(s3_bucket):
    with pytest.raises(FatalError, match="Check the bucket"):
        S3Store("s3://x/prefix").write("k", b"x")  # too short a name for any bucket


@pytest.mark.server
def test_a_server_that_is_not_there_is_transient(s3_bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(TransientError, match="does not answer"):
        S3Store(f"s3://{s3_bucket}/p").read("k")


@pytest.mark.server
def test_wrong_credentials_are_a_plain_sentence(s3_bucket, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(FatalError, match="your credentials"):
        S3Store(f"s3://{s3_bucket}/p").write("k", b"x")


@pytest.mark.server
def test_a_shared_url_opens_without_credentials_until_it_expires(s3_bucket):
    store = S3Store(f"s3://{s3_bucket}/share")
    store.write("k", b"for you", overwrite=True)
    with urllib.request.urlopen(store.share("k", expires_s=60)) as answer:
        assert answer.read() == b"for you"


class Moody(BaseHTTPRequestHandler):
    """An S3 server that gives the answers it was told to: a status, or the bytes after which it hangs up."""

    answers: ClassVar[list[int | bytes]] = []

    def do_GET(self):
        answer = self.answers.pop(0)
        body = answer if isinstance(answer, bytes) else b"<Error><Code>SlowDown</Code></Error>"
        self.send_response(200 if isinstance(answer, bytes) else answer)
        self.send_header("Content-Length", str(len(WHOLE) if isinstance(answer, bytes) else len(body)))
        self.send_header("ETag", f'"{hashlib.md5(WHOLE).hexdigest()}"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


WHOLE = b"at last"


@pytest.fixture
def moody(monkeypatch):
    """A store on a server whose answers a test decides."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Moody)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    stamina.set_testing(True, attempts=100, cap=True)  # without pauses, and as often as usual
    yield S3Store("s3://bucket/prefix")
    stamina.set_testing(False)
    server.shutdown()


@pytest.mark.server
def test_a_busy_server_is_asked_again(moody):
    Moody.answers = [503, 429, WHOLE]
    assert moody.read("k") == WHOLE
    assert Moody.answers == []


@pytest.mark.server
def test_an_answer_that_breaks_off_is_asked_for_again(moody):
    Moody.answers = [WHOLE[:3], b"", WHOLE]
    assert moody.read("k") == WHOLE
    assert Moody.answers == []
    Moody.answers = [WHOLE[:3]] * 9
    with pytest.raises(TransientError, match="to the end"):
        moody.read_tail("k", 4)
    assert len(Moody.answers) == 3  # six attempts
