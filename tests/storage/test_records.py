"""Records survive Arrow and JSON, and their schemas say what they are."""

import json

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.records.annotation import Label, Vote
from storage.records.editing import Certificate, Edit, Finding, Located
from storage.records.ids import canonical_json, content_id, payload
from storage.records.images import Image
from storage.records.recaption import Recaption, Span
from storage.records.rejection import Rejection
from storage.records.tables import from_dict, from_table, schema_of, to_table

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
