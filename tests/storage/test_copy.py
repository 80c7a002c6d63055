"""Copying a workspace: between kinds of stores, resumed, and never silently wrong."""

import pytest

from storage.copy import copy_workspace
from storage.errors import FatalError
from storage.open_store import open_store
from storage.workspace import Workspace


def fill(root) -> Workspace:
    workspace = Workspace.open(root)
    for number in range(12):
        workspace.blobs.put(f"image {number}".encode())
    workspace.write_json("builds/b.json", {"build_id": "b"})
    workspace.write_json("builds/latest.json", {"build_id": "b"})
    workspace.store.write("exports/x/1/README.md", b"card")
    workspace.store.write("exports/x/1/sft/train.parquet", b"rows")
    workspace.store.write("claims/s/f/0", b"{}")
    workspace.store.write("label-studio/server.json", b"secret")
    return workspace


def content(store) -> dict[str, bytes]:
    return {entry.key: store.read(entry.key) for entry in store.entries()}


@pytest.mark.parametrize("way", ["local", pytest.param("s3", marks=pytest.mark.server)])
def test_a_copy_has_the_same_bytes_and_neither_claims_nor_secrets(tmp_path, request, way):
    source = fill(tmp_path / "a").store
    root = tmp_path / "b" if way == "local" else f"s3://{request.getfixturevalue('s3_bucket')}/{tmp_path.name}"
    target = open_store(root)
    result = copy_workspace(source, target)
    wanted = {k: v for k, v in content(source).items() if not k.startswith(("claims/", "label-studio/"))}
    assert content(target) == wanted
    assert (result.copied, result.there, result.left_behind) == (16, 0, 2)  # 12 blobs, 2 of builds, 2 of the export
    assert result.copied_bytes == sum(map(len, wanted.values()))
    back = open_store(tmp_path / "c")
    copy_workspace(target, back)
    assert content(back) == wanted


class Stops:
    """A store that fails after some writes."""

    def __init__(self, inner, writes: int) -> None:
        self._inner, self._left = inner, writes

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def write(self, key, data, *, overwrite=False, durable=True):
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        return self._inner.write(key, data, overwrite=overwrite)


def test_a_stopped_copy_does_not_look_finished_and_goes_on(tmp_path):
    source, target = fill(tmp_path / "a").store, open_store(tmp_path / "b")
    with pytest.raises(KeyboardInterrupt):
        copy_workspace(source, Stops(target, 10))
    assert len(list(target.keys())) == 10
    assert not target.exists("builds/latest.json")
    result = copy_workspace(source, target)
    assert (result.copied, result.there) == (6, 10)
    assert copy_workspace(source, target).copied == 0


def test_a_difference_of_equal_size_is_found(tmp_path):
    source, target = fill(tmp_path / "a").store, open_store(tmp_path / "b")
    copy_workspace(source, target)
    target.write("builds/b.json", target.read("builds/b.json").replace(b"b", b"c"), overwrite=True)
    assert copy_workspace(source, target).copied == 1
    assert target.read("builds/b.json") == source.read("builds/b.json")


def test_a_damaged_blob_stops_the_copy(tmp_path):
    source = fill(tmp_path / "a").store
    key = next(source.keys("blobs/"))
    source.write(key, b"other bytes", overwrite=True)
    with pytest.raises(FatalError, match="is damaged"):
        copy_workspace(source, open_store(tmp_path / "b"))


def test_an_empty_source_is_a_plain_sentence(tmp_path):
    with pytest.raises(FatalError, match="holds no workspace"):
        copy_workspace(open_store(tmp_path), open_store(tmp_path / "b"))


def test_a_target_that_is_no_workspace_is_left_alone(tmp_path):
    source = fill(tmp_path / "a").store
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"a photograph")
    with pytest.raises(FatalError, match="no workspace"):
        copy_workspace(source, open_store(tmp_path / "photos"))
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
    with pytest.raises(FatalError, match="both the source and the target"):
        copy_workspace(source, open_store(tmp_path / "a"))
