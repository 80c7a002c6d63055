"""The device that all networks of this process share, and what is done when it fails."""

import threading

import pytest
import torch

from models.chat import ChatRequest
from models.device import at_device, timed
from models.transformers_chat import TransformersChat
from storage.errors import DeviceLostError
from storage.network import Batching, run_network
from storage.records.rejection import Rejection


def lose(*_, **__):
    raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


def test_a_lost_accelerator_stops_the_build_and_is_no_rows_fault():
    class Lost:
        prepare = finish = lambda self, *row: row

        def run(self, pieces):
            with at_device():
                lose()

    rows = [Rejection(str(n), "", "", "") for n in range(4)]
    with pytest.raises(DeviceLostError, match="needs a new process"):
        run_network(rows, Lost(), Batching(2), key=lambda row: row.key)


def test_a_chat_model_that_loses_its_accelerator_says_so(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    model = TransformersChat(str(tmp_path))
    monkeypatch.setattr(model, "_load", lose)
    with pytest.raises(DeviceLostError, match="illegal memory access"):
        model.generate([ChatRequest("a")])


def test_memory_that_is_short_is_no_lost_device():
    with pytest.raises(torch.OutOfMemoryError), at_device():
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_after_an_error_the_device_is_free_for_others():
    with pytest.raises(ValueError, match="a"), at_device():
        raise ValueError("a")
    done = threading.Event()

    def other():
        with timed() as counted, at_device():
            pass
        assert counted.waited_s < 1
        done.set()

    threading.Thread(target=other).start()
    assert done.wait(5)
