"""`guardset audit` on a public schema with planted pairs: what each is called, and what is written and said."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import flows.audit
from flows.cli.main import app
from guard.contract.features import IMAGE, TEXT, arrow_schema, class_label
from guard.export.settings import GuardSettings
from guard.export.write import export
from storage.errors import FatalError
from storage.records.audit import AuditedPair
from storage.records.tables import from_table
from storage.workspace import Workspace
from tests.guard.conftest import synthetic
from tests.photographs import collect, regions_for
from tests.photographs.edits import Region, as_jpeg, marked
from tests.photographs.pairs import KINDS

FEATURES = {
    "image": IMAGE,
    "image_path": TEXT,
    "safety_label": class_label(["safe", "unsafe"]),
    "policy_name": class_label(["Policy L1", "Policy L2"]),
    "policy": TEXT,
}
PLANTED = {
    "good": ("good", "saved as JPEG 90", (1, 0)),
    "untouched": ("untouched", "the same pixels", (1, 1)),
    "reencoded": ("re-encoded", "JPEG 60", (1, 1)),
    "moved": ("moved", "shifted by 4 px", (1, 0)),
    "recoloured": ("recoloured", "warm by 10 %", (1, 0)),
    "regenerated": ("regenerated", "another photograph", (1, 0)),
    "target_left": ("target left", "at 50 % opacity", (1, 0)),
    "relabelled": ("relabelled", "JPEG 75", (1, 0)),
    "not_flipped": ("good", "Telea with grain", (1, 1)),
}


def encoded(rgb, form="PNG") -> bytes:
    sink = io.BytesIO()
    Image.fromarray(rgb).save(sink, form)
    return sink.getvalue()


@pytest.fixture(scope="module")
def regions(tmp_path_factory) -> list[Region]:
    """One region of each photograph of the installed packages, small."""
    folder = tmp_path_factory.mktemp("photographs")
    names = [name for name in collect(folder) if name != "chelsea.jpg"]
    found = {region.name.split(":")[0]: region for region in marked(folder, regions_for(names))}
    return list(found.values())


@pytest.fixture(scope="module")
def published(regions, tmp_path_factory):
    """SafeEditBench's columns: one planted pair of each kind on a photograph of its own where there are enough, a
    broken picture, one alone, and the moved pair's original in the other split."""
    folder = tmp_path_factory.mktemp("published")
    cup = next(region for region in regions if region.name.startswith("coffee"))
    rows = {"train": [], "test": []}
    for name, (kind, strength, labels) in PLANTED.items():
        edited = KINDS[kind].strengths[strength](cup)
        sides = {f"{name}.png": encoded(cup.original), f"{name}_edited.png": encoded(edited)}
        rows["test"] += said(sides, labels)
    rows["test"] += said({"broken.png": b"no picture", "broken_edited.png": encoded(cup.good)}, (1, 0))
    rows["test"] += said({"alone.png": encoded(regions[0].original)}, (1,))
    rows["train"] += said({"again.png": encoded(cup.original), "again_edited.jpg": encoded(cup.good, "JPEG")}, (1, 0))
    for split, listed in rows.items():
        table = pa.Table.from_pylist(listed, schema=arrow_schema(FEATURES))
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet")
    return folder


def said(sides, labels):
    """A row for each policy; under L1 everything is safe."""
    return [
        {
            "image": {"bytes": data, "path": None},
            "image_path": name,
            "safety_label": label if policy else 0,
            "policy_name": policy,
            "policy": f"Policy {policy}",
        }
        for policy in (0, 1)
        for (name, data), label in zip(sides.items(), labels, strict=True)
    ]


@pytest.fixture(scope="module")
def audited(published, tmp_path_factory):
    """The folder of an audit of it."""
    to = tmp_path_factory.mktemp("out") / "audit"
    app(["audit", str(published), "--to", str(to)], result_action="return_value")
    return to


def rows_of(folder) -> dict[str, AuditedPair]:
    return {row.pair_id: row for row in from_table(pq.read_table(folder / "pairs.parquet"), AuditedPair)}


def test_each_planted_pair_gets_its_verdict(audited):
    """The original is the same picture in all, so all are one family, which the copy in train makes a leak."""
    rows = rows_of(audited)
    for name in PLANTED:
        about_pixels = [r for r in rows[name].reasons if r not in ("family_in_two_splits",)]
        expected = "good" if name == "good" else f"pair_{name}"
        assert (about_pixels or ["good"])[0] == expected, name
    assert rows["broken"].verdict == "not_an_image"
    assert "broken.png" in rows["broken"].detail
    assert rows["alone"].reasons == ("pair_unpaired",)
    assert rows["again"].reasons == ("family_in_two_splits",)
    assert len({rows[name].family_id for name in (*PLANTED, "again")}) == 1


def test_a_row_tells_where_the_change_is(audited):
    good = rows_of(audited)["good"]
    assert good.original_size == good.edited_size
    assert 0.02 < good.changed_share < 0.5
    assert len(good.regions) >= 1
    assert rows_of(audited)["moved"].shift_px == pytest.approx(4, abs=0.3)


def test_the_summary_is_one_line(audited):
    (line,) = (audited / "summary.json").read_text().splitlines()
    told = json.loads(line)
    assert told["pairs"] == len(PLANTED) + 3
    assert told["reasons"]["pair_moved"] == 1
    assert told["leaking_families"] == 1
    assert told["splits"] == {"test": len(PLANTED) + 2, "train": 1}


def test_the_report_loads_nothing_and_blurs_what_may_be_unsafe(audited):
    page = (audited / "report.html").read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert page.count('class="veil frame"') + page.count('<span class="frame">') == 2 * (len(PLANTED) + 3) - 2
    assert "pair_target_left" in page
    assert "By the role alone" in page


def test_an_audit_is_replaced_only_when_told_to(published, audited, tmp_path):
    with pytest.raises(FatalError, match=r"is there already.*--to.*--overwrite"):
        app(["audit", str(published), "--to", str(audited)], result_action="return_value")
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FatalError, match="holds more than an audit"):
        app(["audit", str(published), "--to", str(tmp_path), "--overwrite"], result_action="return_value")
    shutil.copytree(audited, tmp_path / "old" / "audit")
    with pytest.raises(FatalError, match="holds more than an audit"):  # an audit deep within makes it none
        app(["audit", str(published), "--to", str(tmp_path), "--overwrite"], result_action="return_value")
    assert (tmp_path / "thesis.txt").exists()


def test_a_set_that_cannot_be_read_costs_no_older_audit(audited, tmp_path):
    shutil.copytree(audited, tmp_path / "audit")
    before = {p.name: p.read_bytes() for p in (tmp_path / "audit").iterdir()}
    with pytest.raises(FatalError):
        app(["audit", str(tmp_path / "gone"), "--to", str(tmp_path / "audit"), "--overwrite"],
            result_action="return_value")  # fmt: skip
    with pytest.raises(FatalError, match="holds what is to be audited"):
        app(["audit", str(tmp_path / "audit"), "--to", str(tmp_path / "audit"), "--overwrite"],
            result_action="return_value")  # fmt: skip
    assert {p.name: p.read_bytes() for p in (tmp_path / "audit").iterdir()} == before


def test_several_sets_stand_in_one_table(regions, tmp_path, capsys):
    """A folder with masks, and a table with both sides in a row, whose columns have other names."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    for number, region in enumerate(regions[:2]):
        (folder / f"{number}.png").write_bytes(encoded(region.original))
        (folder / f"{number}_edited.jpg").write_bytes(encoded(as_jpeg(region.good, 92), "JPEG"))
        (folder / f"{number}_mask.png").write_bytes(encoded(np.repeat(region.mask[..., None] * np.uint8(255), 3, 2)))
    region = regions[2]
    row = {"original": encoded(region.original), "edited": encoded(as_jpeg(region.original, 80))}
    pq.write_table(
        pa.Table.from_pylist([{**row, "label": "unsafe", "edited_label": "safe"}]), tmp_path / "ours.parquet"
    )
    to = tmp_path / "out"
    arguments = ["audit", str(folder), str(tmp_path / "ours.parquet"), "--to", str(to)]
    app(arguments, result_action="return_value")
    out = capsys.readouterr().out
    assert re.search(r"theirs\s+ours", out)
    assert re.search(r"good\s+2 \(100 %\)\s+0 \(0 %\)", out)
    assert re.search(r"relabelled\s+0 \(0 %\)\s+1 \(100 %\)", out)
    told = [json.loads(line) for line in (to / "sets.jsonl").read_text().splitlines()]
    assert [one["name"] for one in told] == ["theirs", "ours"]
    assert all(row.outside_share is not None for row in rows_of(to / "theirs").values())
    app([*arguments, "--overwrite"], result_action="return_value")  # what an audit wrote may be replaced


def test_one_bad_file_costs_its_own_row(regions, tmp_path, monkeypatch):
    """A mask that does not decode, and an error that nobody foresaw."""
    folder, region = tmp_path / "set", regions[0]
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.png").write_bytes(encoded(region.original))
        (folder / f"{name}_edited.png").write_bytes(encoded(region.good))
    (folder / "a_mask.png").write_bytes(b"no mask")
    (folder / "b_mask.jpg").write_bytes(encoded(np.repeat(region.mask[..., None] * np.uint8(255), 3, 2), "JPEG"))
    measured = flows.audit.measure_pair

    def fails(original, edited, mask):
        if mask is None:
            raise ZeroDivisionError("nobody foresaw this")
        return measured(original, edited, mask)

    monkeypatch.setattr(flows.audit, "measure_pair", fails)
    app(["audit", str(folder), "--to", str(tmp_path / "out")], result_action="return_value")
    found = rows_of(tmp_path / "out")
    assert (found["a"].reasons, found["a"].detail[:9]) == (("not_an_image",), "The mask:")
    assert found["b"].verdict == "good"
    assert found["c"].reasons == ("unexpected_error",)
    assert "nobody foresaw this" in found["c"].detail


def test_what_cannot_be_read_at_all_is_said(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(FatalError, match=r"holds 1 pictures and no pair.*--suffix"):
        app(["audit", str(tmp_path), "--to", str(tmp_path / "out")], result_action="return_value")
    with pytest.raises(FatalError, match="Name a set"):
        app(["audit"], result_action="return_value")


def test_our_own_export_stands_beside_published_sets(tmp_path, capsys):
    """Drawn pictures: five good pairs, each under the policies alone, and no family in two splits."""
    workspace = Workspace.open(tmp_path / "workspace")
    place = export(synthetic(workspace), workspace, GuardSettings(test_ratio=0.5)).path
    app(["audit", str(place), "--to", str(tmp_path / "audit")], result_action="return_value")
    told = json.loads((tmp_path / "audit" / "summary.json").read_text())
    assert told["name"].startswith("guardset-")
    assert set(told["splits"]) == {"train", "test"}
    assert told["leaking_families"] == 0
    rows = rows_of(tmp_path / "audit").values()
    assert {row.verdict for row in rows} == {"good"}
    assert all(row.original_split == row.edited_split for row in rows if row.edited and row.original)
    policies = {label.policy for row in rows for label in row.labels}
    assert policies
    assert all(re.fullmatch(r"Policy L\d", policy) for policy in policies)
    assert "not_an_image" not in told["reasons"]
    parent = str(Path(place).parent)
    with pytest.raises(FatalError, match="holds exports"):
        app(["audit", parent, "--to", str(tmp_path / "other")], result_action="return_value")
