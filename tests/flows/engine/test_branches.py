"""On a cluster the editing and the captioning branch of a build run at once; nobody can tell from what they made."""

import threading
from contextlib import nullcontext

from flows import build as build_module
from flows.build import build
from flows.engine.pool import LocalPool
from tests.flows.test_build import SETTINGS, chats, photos  # noqa: F401 - fixtures


class MeetingPool(LocalPool):
    """Lets the first edit shard and the first caption shard begin only when both are there."""

    def __init__(self, **how) -> None:
        super().__init__(**how)
        self._both = threading.Barrier(2, timeout=120)
        self._met: set[str] = set()

    def run(self, workspace, stage, input_hash):
        if stage.name in ("edit", "caption") and stage.name not in self._met:
            self._met.add(stage.name)
            self._both.wait()
        return super().run(workspace, stage, input_hash)


def tables(root):
    return {p.relative_to(root): p.read_bytes() for p in (root / "tables").rglob("*.parquet")}


def test_branches_overlap_on_a_cluster_and_change_no_byte(chats, photos, tmp_path, monkeypatch):  # noqa: F811
    calm = build(SETTINGS, photos, str(tmp_path / "calm"))
    monkeypatch.setattr(build_module, "open_pool", lambda *_, **__: nullcontext(MeetingPool(keeps_models=True)))
    clustered = build(SETTINGS.model_copy(update={"engine": "ray"}), photos, str(tmp_path / "clustered"))
    assert clustered.build_id == calm.build_id
    assert [stage.name for stage in clustered.stages] == [stage.name for stage in calm.stages]
    assert tables(tmp_path / "clustered") == tables(tmp_path / "calm")
