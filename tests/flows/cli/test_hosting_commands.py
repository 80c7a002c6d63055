"""`guardset inspect` and `guardset workspace copy`, as people call them."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.cli.console import console
from flows.cli.main import app
from storage.errors import FatalError
from storage.images import encode_png
from storage.open_store import open_store
from tests.configs import write_config
from tests.drawing import draw


def guardset(*arguments) -> str:
    """What the command prints, on one wide line per row."""
    console.width = 300
    with console.capture() as printed, pytest.raises(SystemExit) as done:
        app([str(argument) for argument in arguments])
    assert not done.value.code
    return printed.get()


COLUMNS = {
    "image": "picture", "key": "id", "licence": "rights", "category": "kind", "boxes": "regions", "labels": "verdict",
}  # fmt: skip


@pytest.fixture
def rows(tmp_path):
    """Twelve rows, of which the second has no image."""
    pictures = [encode_png(draw(number)) for number in range(12)]
    table = {
        "picture": pa.array([*pictures[:1], None, *pictures[2:]], pa.binary()),
        "id": [f"row-{number}" for number in range(12)],
        "rights": ["CC0-1.0"] * 12,
        "kind": ["knife"] * 12,
        "regions": [[[1, 2, 3, 4]]] * 12,
        "verdict": ["unsafe"] * 12,
    }
    pq.write_table(pa.table(table), tmp_path / "rows.parquet")
    write_config(tmp_path / "guardset.yaml", {"ingest": {"columns": COLUMNS}})
    return tmp_path / "rows.parquet"


@pytest.mark.parametrize(("workspace", "offers_up"), [("work", True), ("s3://bucket/work", False)])
def test_serve_offers_only_a_server_that_can_be_started(tmp_path, monkeypatch, workspace, offers_up):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    write_config(tmp_path / "guardset.yaml")
    plan = tmp_path / "schedules.yaml"
    plan.write_text(f"workspace: {workspace}\nconfig: guardset.yaml\nbuild: {{source: photos}}\n")
    with pytest.raises(FatalError, match="PREFECT_API_URL to one") as caught:
        app(["serve", str(plan)], result_action="return_value")
    assert ("guardset up --workspace work" in str(caught.value)) == offers_up


def test_a_prefect_server_that_is_not_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    write_config(tmp_path / "guardset.yaml")
    plan = tmp_path / "schedules.yaml"
    plan.write_text("workspace: work\nconfig: guardset.yaml\nbuild: {source: photos}\n")
    with pytest.raises(FatalError, match=r"No Prefect server answers at 127\.0\.0\.1:9 .* unset it to go on"):
        app(["serve", str(plan)], result_action="return_value")


def test_inspect_shows_ten_rows_as_they_were_understood(rows):
    printed = guardset("inspect", rows, "--config", rows.with_name("guardset.yaml"))
    assert "table, 12 images" in printed
    (first,) = (line for line in printed.splitlines() if "row-0" in line)
    for text in ("96x64", "CC0-1.0", "knife", "[[1, 2, 3, 4]]", "unsafe"):
        assert text in first
    (second,) = (line for line in printed.splitlines() if "row-1 " in line)
    assert "column picture is empty there" in second
    assert "row-9" in printed
    assert "row-10" not in printed
    assert sorted(path.name for path in rows.parent.iterdir()) == ["guardset.yaml", "rows.parquet"]  # nothing written


def test_bytes_are_no_category_and_a_long_cell_is_shortened(rows):
    config = rows.with_name("guardset.yaml")
    write_config(config, {"ingest": {"columns": COLUMNS | {"category": "picture"}}})
    with pytest.raises(FatalError, match=r"Column 'picture' of .* holds binary, which only an image may be"):
        app(["inspect", str(rows), "--config", str(config)])
    write_config(config, {"ingest": {"columns": COLUMNS}})
    pq.write_table(pq.read_table(rows).set_column(3, "kind", pa.array(["x" * 5000] * 12)), rows)
    printed = guardset("inspect", rows, "--config", config)
    assert "x" * 100 in printed
    assert max(map(len, printed.splitlines())) < 300


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"policies": "no-such-folder"}, r"policy folder \S*no-such-folder does not exist"),
        ({"editing": {"edit": {"target_policies": ["L9"]}}}, "names L9, which is not among L1"),
        ({"ingest": {"block_list": "no-such-list.txt"}}, "no-such-list.txt: No such file"),
    ],
)
def test_inspect_stops_where_a_build_would(tmp_path, wrong, sentence):
    (tmp_path / "a.png").write_bytes(encode_png(draw(1)))
    write_config(tmp_path / "wrong.yaml", wrong)
    with pytest.raises(FatalError, match=sentence):
        app(["inspect", str(tmp_path), "--config", str(tmp_path / "wrong.yaml")])


def test_inspect_says_how_many_of_the_images_the_manifest_lists(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / "photos" / name).write_bytes(encode_png(draw(1)))
    editing = {
        "locate": {"source": "manifest", "manifest": "rows.jsonl"},
        "edit": {"model": "opencv-telea"},
        "certify": {"recheck": "none"},
    }
    config, rows = tmp_path / "guardset.yaml", tmp_path / "rows.jsonl"
    config.write_text(json.dumps({"editing": editing}))
    rows.write_text('{"file": "b.png"}\n{"file": "elsewhere.png"}')
    assert "rows.jsonl lists 1 of them." in guardset("inspect", tmp_path / "photos", "--config", config)
    rows.write_text('{"file": "photos/b.png"}')
    sentence = r"lists none of the 3 files of the input\. It lists photos/b\.png, for example, and the input has a\.png"
    for command in (["inspect"], ["build", "-w", str(tmp_path / "w"), "-i"]):
        with pytest.raises(FatalError, match=sentence):
            app([*command, str(tmp_path / "photos"), "--config", str(config)], result_action="return_value")
    with pytest.raises(FatalError, match=sentence):
        app(["build", "-w", str(tmp_path / "w"), "-i", str(tmp_path / "photos"), "-c", str(config), "--dry-run"])


def test_a_workspace_is_copied_and_the_second_time_looked_at(tmp_path):
    source = open_store(tmp_path / "a")
    source.write("builds/b.json", json.dumps({"build_id": "b"}).encode())
    source.write("claims/s/f/0", b"{}")
    assert "1 files (0.0 MB) copied, 0 were there before, 1 " in guardset(
        "workspace", "copy", tmp_path / "a", tmp_path / "b"
    )
    assert "0 files (0.0 MB) copied, 1 were there before, 1 " in guardset(
        "workspace", "copy", tmp_path / "a", tmp_path / "b"
    )
    assert open_store(tmp_path / "b").read("builds/b.json") == source.read("builds/b.json")
