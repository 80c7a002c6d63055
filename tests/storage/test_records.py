"""Records survive Arrow and JSON, and their schemas say what they are."""

import importlib
import inspect
import json
import pkgutil

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import storage.records
from storage.errors import FatalError
from storage.records.annotation import Label, Vote
from storage.records.editing import Certificate, Edit, Finding, Located
from storage.records.ids import canonical_json, content_id, payload
from storage.records.images import Image
from storage.records.recaption import Recaption, Span
from storage.records.rejection import Rejection
from storage.records.tables import from_dict, from_table, schema_of, to_table
from storage.workspace import Workspace

FINDING = Finding("f", ("blade",), (), (1, 2, 3, 4), "", "Remove the knife.", 0.5)
CERTIFICATE = Certificate(0, 1.0, 0.8, 0.1, 3, ("ball",))
EDIT = Edit(
    "e", "i", "b", "0" * 16, "j", "fam", "remove", 0, 7, ("blade", "ball"), ("blade",), "m", "ed", 10, 8, "f" * 16,
    CERTIFICATE, ("blade",), "accepted", (),
)  # fmt: skip


@pytest.mark.parametrize(
    ("record", "kind"),
    [
        (Located("i", ("blade",), (FINDING,), "loc"), Located),
        (Located("i", (), (), "loc"), Located),
        (EDIT, Edit),
        (Recaption("i", "a", "a b", ("blade",), (Span(1, 2, "b", ()),), (), 1.0, 2.0, "m", "p", None, ()), Recaption),
        (Label("i", "L1", None, "missing", (), 0, 0, 0, "safe", (), False, False), Label),
        (Vote("i", "L1", "safe", (), "a@b", True, 1.5, "", 1, 2, 3, "2026-01-01T00:00:00Z"), Vote),
        (Rejection("k", "code", "detail", "{}"), Rejection),
    ],
)
def test_a_record_comes_back_from_arrow_and_json_as_it_was(record, kind):
    table = to_table([record, record], kind)
    assert table.schema == schema_of(kind)
    assert from_table(table, kind) == [record, record]
    assert from_dict(json.loads(payload(record)), kind) == record


def test_a_schema_names_its_record_and_version():
    assert schema_of(Image).metadata == {b"record": b"Image", b"schema_version": b"2"}


def test_only_optional_fields_are_nullable():
    nullable = {field.name for field in schema_of(Edit) if field.nullable}
    assert nullable == {"certificate", "verdict"}


def test_a_missing_column_is_an_error():
    with pytest.raises(TypeError):
        from_table(pa.table({"key": ["k"]}), Rejection)


@given(st.dictionaries(st.text(), st.integers()))
def test_canonical_json_ignores_the_order_of_keys(mapping):
    assert canonical_json(mapping) == canonical_json(dict(reversed(list(mapping.items()))))


@given(st.lists(st.text(), min_size=2, max_size=4))
def test_content_id_keeps_its_parts_apart(parts):
    # "a","b" joined is "ab", but the ids must differ whenever the lists do.
    assert content_id(*parts) != content_id("".join(parts))


RECORDS = [
    record
    for module in pkgutil.iter_modules(storage.records.__path__)
    for record in vars(importlib.import_module(f"storage.records.{module.name}")).values()
    if inspect.isclass(record) and hasattr(record, "SCHEMA_VERSION") and record.__module__.endswith(module.name)
]


@pytest.mark.parametrize("step", [-1, 1], ids=["older", "newer"])
@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_each_record_of_another_version_is_refused_by_name(record, step):
    version = record.SCHEMA_VERSION + step
    schema = schema_of(record).with_metadata({"record": record.__name__, "schema_version": str(version)})
    rows = pa.table([pa.nulls(1, field.type) for field in schema], schema=schema)
    with pytest.raises(FatalError, match=rf"Rows are {record.__name__} in version {version}, .* version "):
        from_table(rows, record)


@pytest.mark.parametrize(
    "key",
    [
        "builds/latest.json",
        "builds/b.json",
        "annotation/k/project.json",
        "annotation/k/collect.json",
        "annotation/k/withheld.json",
        "annotation/k/overlap.json",
        "evaluations/r.json",
        "exports/latest.json",
        "sources/s.json",
        "usage/s/f.json",
    ],
)
def test_each_json_record_of_a_newer_release_is_refused_by_name(tmp_path, key):
    workspace = Workspace.open(tmp_path)
    workspace.write_json(key, {"a": 1})
    assert workspace.read_json(key) == {"a": 1}
    workspace.write_json(key, {"a": 1, "guardset_format": 2})
    with pytest.raises(FatalError, match=f"{key} is in format 2, where this release reads format 1"):
        workspace.read_json(key)
