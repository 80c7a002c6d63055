"""A server that serves other weights under the same name than before."""

import pytest

from flows.build import build
from flows.served import check_served
from micro.preset import preset
from storage.errors import FatalError
from tests.scripted_chat import scripted_chat

VLLM = {"id": "vl", "object": "model", "created": 1, "owned_by": "vllm", "root": "/srv/Qwen2.5-VL-7B", "parent": None}
LLAMA = {"id": "vl", "owned_by": "llamacpp", "meta": {"n_params": 7_600_000_000, "size": 4_700_000_000}}


def settings(url, **more):
    locate = {"source": "chat", "model": "vl", "box_units": "thousandths", "server": {"base_url": url}, **more}
    return preset({"editing": {"locate": locate}})


@pytest.mark.parametrize(
    ("before", "now", "part"),
    [
        (VLLM, VLLM | {"root": "/srv/Qwen2.5-VL-3B"}, "root"),
        (VLLM, VLLM | {"parent": "Qwen2.5-VL-7B", "root": "/srv/adapter"}, "parent"),
        (LLAMA, LLAMA | {"meta": {"n_params": 3_100_000_000, "size": 2_000_000_000}}, "meta"),
        (VLLM, LLAMA, "meta"),
    ],
)
def test_other_weights_under_the_same_name_stop_a_build_until_they_have_a_revision(workspace, before, now, part):
    listed = [before]
    with scripted_chat(models=listed, answer=lambda _: "{}") as (url, _):
        check_served(workspace, settings(url))
        listed[0] = now
        for _ in range(2):  # it stays refused
            with pytest.raises(FatalError, match=rf"vl is not the model .*said {part} .*`revision` beside `model`"):
                check_served(workspace, settings(url))
        check_served(workspace, settings(url, revision="new"))


@pytest.mark.parametrize(
    "now", [VLLM | {"created": 2}, VLLM | {"root": "/mnt/models/Qwen2.5-VL-7B"}, {"id": "vl"}, {"id": "another"}]
)
def test_a_restart_a_moved_folder_and_a_server_that_says_nothing_are_no_change(workspace, now):
    listed = [VLLM]
    with scripted_chat(models=listed, answer=lambda _: "{}") as (url, _):
        check_served(workspace, settings(url))
        listed[0] = now
        check_served(workspace, settings(url))
    check_served(workspace, settings(url))  # it is gone: whoever asks it says so


def test_a_build_stops_before_it_asks_the_other_model_anything(workspace, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.png").write_bytes(b"not read")
    listed = [VLLM]
    with scripted_chat(models=listed, answer=lambda _: "{}") as (url, prompts):
        check_served(workspace, settings(url))
        listed[0] = LLAMA
        with pytest.raises(FatalError, match="not the model that this workspace was built with"):
            build(settings(url), tmp_path / "photos", workspace.store.root)
        assert not prompts
