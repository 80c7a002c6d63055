"""LPIPS behind its seam: the package is optional, so a stand-in of its interface is called here."""

import sys
from types import ModuleType

import pytest
import torch

from models.perceptual import Lpips
from storage.errors import FatalError
from tests.drawing import draw


def installed(monkeypatch, **contents):
    package = ModuleType("lpips")
    package.__dict__.update(contents)
    monkeypatch.setitem(sys.modules, "lpips", package)


class FakeNetwork(torch.nn.Module):
    """Mean absolute difference; remembers what it was shown."""

    seen: list[torch.Tensor]

    def __init__(self, net, verbose):
        super().__init__()
        assert (net, verbose) == ("alex", False)
        FakeNetwork.seen = []

    def forward(self, first, second):
        FakeNetwork.seen += [first, second]
        return (first - second).abs().mean().reshape(1, 1, 1, 1)


def test_pictures_reach_the_network_in_the_range_and_size_that_it_knows(monkeypatch):
    installed(monkeypatch, LPIPS=FakeNetwork)
    black, white = draw(1, (1024, 300)) * 0, draw(1, (1024, 300)) * 0 + 255
    measure = Lpips()
    assert measure.distance(black, black) == 0.0
    assert measure.distance(black, white) == pytest.approx(2.0)  # -1 against 1
    assert {tuple(t.shape) for t in FakeNetwork.seen} == {(1, 3, 150, 512)}
    assert measure.distance(black[:3, :5], black[:3, :5]) == 0.0
    assert FakeNetwork.seen[-1].shape == (1, 3, 64, 64)


def test_without_the_package_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(FatalError, match=r"pip install -e '\.\[lpips\]'"):
        Lpips().distance(draw(1), draw(1))


def test_weights_that_cannot_be_loaded_stop_with_a_sentence(monkeypatch):
    def broken(**_):
        raise OSError("no network")

    installed(monkeypatch, LPIPS=broken)
    with pytest.raises(FatalError, match="cannot be loaded: no network"):
        Lpips().distance(draw(1), draw(1))
