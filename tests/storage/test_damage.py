"""What a failing disk makes of a file is never read as something else."""

import io
import random

import pyarrow as pa
import pytest

from storage.claim import claimed
from storage.errors import FatalError
from storage.ledger import shard_record
from storage.parquet import parquet_bytes, read_parquet
from storage.records.ids import sha256_hex
from storage.records.rejection import Rejection
from storage.records.tables import from_table, to_table

DAMAGED = (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError)
ROWS = [Rejection(f"key-{n}", "truncated", f"it ends at {n}", "{}") for n in range(50)]


def flipped(data: bytes, position: int, bit: int) -> bytes:
    return data[:position] + bytes([data[position] ^ (1 << bit)]) + data[position + 1 :]


def flips(data: bytes, count: int):
    """The same places at each run, spread over all bytes."""
    chosen = random.Random(0)
    for number in range(count):
        yield flipped(data, number * len(data) // count, chosen.randrange(8))


def test_no_flipped_bit_of_a_table_changes_a_value():
    table = to_table(ROWS, Rejection)
    data = parquet_bytes(table)
    assert read_parquet(data).equals(table, check_metadata=True)
    kept = 0
    for broken in flips(data, 2000):
        try:
            found = read_parquet(broken)
        except DAMAGED:
            continue
        kept += 1  # the seal's own name: the rest is whole
        assert from_table(found, Rejection) == ROWS
    assert kept <= 20


@pytest.mark.parametrize("length", [0, 1, 7, 8, 100, -1])
def test_a_torn_table_is_damaged(length):
    with pytest.raises(DAMAGED):
        read_parquet(parquet_bytes(to_table(ROWS, Rejection))[:length])


def test_a_table_of_an_earlier_release_is_read():
    file = io.BytesIO()
    pa.parquet.write_table(to_table(ROWS, Rejection), file)
    assert from_table(read_parquet(file.getvalue()), Rejection) == ROWS


def test_no_flipped_bit_changes_what_a_table_says_of_its_shard(workspace):
    workspace.ledger.commit("s", "f", to_table(ROWS, Rejection), ROWS[:2], rows_in=52)
    key = workspace.ledger.table_key("s", "f")
    data, right = workspace.store.read(key), workspace.ledger.find("s", "f")
    for broken in flips(data, 1000):
        try:
            assert shard_record(io.BytesIO(broken)) == right
        except DAMAGED:
            continue


@pytest.mark.parametrize("reading", ["read", "read_many", "stream", "find", "rejected", "read_input"])
def test_the_ledger_names_a_damaged_file(workspace, reading):
    ledger, table = workspace.ledger, to_table(ROWS, Rejection)
    ledger.commit("s", "f", table, ROWS[:2], rows_in=52)
    name = ledger.put_input("s", table)
    read = {
        "read": lambda: ledger.read("s", "f"),
        "read_many": lambda: list(ledger.read_many("s", ["f"])),
        "stream": lambda: list(ledger.stream("s", ["f"])),
        "find": lambda: ledger.find("s", "f"),
        "rejected": lambda: ledger.rejected("s", "f"),
        "read_input": lambda: ledger.read_input("s", name),
    }[reading]
    read()
    folder = {"rejected": "quarantine/s/", "read_input": "tables/s.in/"}.get(reading, "tables/s/")
    (key,) = workspace.store.keys(folder)
    data = workspace.store.read(key)
    place = len(data) - 40 if reading == "find" else len(data) // 3
    workspace.store.write(key, flipped(data, place, 3), overwrite=True)
    with pytest.raises(FatalError, match=rf"{key} is damaged .*guardset check .* --repair"):
        read()


def test_a_quarantine_file_that_is_gone_is_missed(workspace):
    workspace.ledger.commit("s", "f", to_table([], Rejection), ROWS[:2], rows_in=2)
    (key,) = workspace.store.keys("quarantine/")
    workspace.store.delete(key)
    with pytest.raises(FatalError, match=f"{key} is missing"):
        workspace.ledger.rejected("s", "f")


@pytest.mark.parametrize("left", [b"", b"half", b"other bytes"])
def test_what_is_put_again_replaces_what_is_damaged(workspace, left):
    blob = workspace.blobs.put(b"some bytes")
    name = workspace.ledger.put_input("s", to_table(ROWS, Rejection))
    for key in (workspace.blobs.key(blob), workspace.ledger.table_key("s.in", name)):
        workspace.store.write(key, left, overwrite=True)
    with pytest.raises(FatalError, match=f"{blob} is damaged .* --repair"):
        workspace.blobs.get(blob)
    workspace.blobs.put(b"some bytes")
    workspace.ledger.put_input("s", to_table(ROWS, Rejection))
    assert workspace.blobs.get(blob) == b"some bytes"
    assert from_table(workspace.ledger.read_input("s", name), Rejection) == ROWS


def test_no_flipped_bit_changes_a_record(workspace):
    record = {"build_id": "b", "cost": {"total": 1.5}, "tables": {"edit": ["f" * 64]}, "source": "Größe"}
    workspace.write_json("builds/b.json", record)
    data = workspace.store.read("builds/b.json")
    assert workspace.read_json("builds/b.json") == record
    for broken in flips(data, 8 * len(data)):
        workspace.store.write("builds/b.json", broken, overwrite=True, durable=False)
        try:
            found = workspace.read_json("builds/b.json")
        except FatalError:
            continue
        assert found == record


def test_numbers_as_keys_and_records_without_a_hash(workspace):
    workspace.write_json("annotation/k/collect.json", {10: "a", 9: "b"})
    assert workspace.read_json("annotation/k/collect.json") == {"10": "a", "9": "b"}
    workspace.store.write("builds/old.json", b'{"build_id": "' + b"a" * 64 + b'"}')
    assert workspace.read_json("builds/old.json") == {"build_id": "a" * 64}


@pytest.mark.parametrize("key", ["usage/edit/f.json", "sources/s.json"])
@pytest.mark.parametrize("content", [b"", b'{"mod', b"[1]", b"\xff\xfe"])
def test_a_torn_cache_counts_as_absent(workspace, key, content):
    workspace.store.write(key, content)
    assert workspace.read_json(key) is None


@pytest.mark.parametrize("content", [b"", b'{"host', b"[1]", b"{}", b"\xff"])
def test_a_torn_claim_is_nobodys(workspace, content):
    workspace.store.write("claims/s/f/0", content)
    with claimed(workspace.store, "s", "f", lambda: False) as ours:
        assert ours
    assert not list(workspace.store.keys("claims/"))


@pytest.mark.parametrize(
    "told", [{"schema_version": "2"}, {"schema_version": "0"}, {"record": "Vote"}, {"record": "x"}]
)
def test_another_version_of_a_record_is_refused_by_name(told):
    table = to_table(ROWS, Rejection)
    table = table.replace_schema_metadata({**table.schema.metadata, **{k.encode(): v for k, v in told.items()}})
    with pytest.raises(FatalError, match="this release reads Rejection in version 1"):
        from_table(table, Rejection)


def test_what_a_shard_wrote_is_safe_before_its_table_appears(workspace, monkeypatch):
    done = []
    write, sync = workspace.store.write, workspace.store.sync

    def recorded(key, data, *, overwrite=False, durable=True):
        done.append((key.split("/")[0], durable))
        return write(key, data, overwrite=overwrite, durable=durable)

    monkeypatch.setattr(workspace.store, "write", recorded)
    monkeypatch.setattr(workspace.store, "sync", lambda: (done.append("sync"), sync()))
    assert workspace.blobs.put(b"x") == sha256_hex(b"x")
    workspace.ledger.commit("s", "f", to_table([], Rejection), ROWS, rows_in=50)
    assert done == [("blobs", False), ("quarantine", False), "sync", ("tables", True)]
