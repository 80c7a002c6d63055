"""`guardset collect --watch`: it repeats, hears a webhook, and outlives a server that is away."""

import socket

import httpx
import pytest

from annotation import webhook
from annotation.webhook import Hints
from flows.cli.commands import labelling
from micro import PRESET
from micro.preset import preset
from storage.errors import FatalError, TransientError

SECRET = "a secret of some length"


class EndError(Exception):
    """Ends a loop that has no end."""


def test_a_server_that_is_away_is_asked_again(monkeypatch, capsys):
    runs = []

    def collect_once(workspace, settings, full):
        runs.append(workspace)
        if len(runs) == 1:
            raise TransientError("Label Studio did not answer.")
        raise EndError

    monkeypatch.setattr(labelling, "_collect_once", collect_once)
    monkeypatch.setattr(Hints, "wait", lambda self, seconds: runs.append(seconds) or True)
    with pytest.raises(EndError):
        labelling._watch("ws", preset(), False, 300.0, None)
    assert runs == ["ws", 300.0, "ws"]
    assert "did not answer. Asking again in 300 s." in " ".join(capsys.readouterr().out.split())


@pytest.fixture
def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_call_is_followed_by_a_collect(monkeypatch, unused_port):
    monkeypatch.setenv("GUARDSET_WEBHOOK_SECRET", SECRET)
    monkeypatch.setattr(webhook, "Hints", lambda: Hints(settle_s=0))
    runs = []

    def collect_once(workspace, settings, full):
        runs.append(full)
        if len(runs) == 2:
            raise EndError
        url = f"http://127.0.0.1:{unused_port}/"
        answer = httpx.post(url, headers={"Authorization": f"Bearer {SECRET}"}, trust_env=False)
        assert answer.status_code == 204

    monkeypatch.setattr(labelling, "_collect_once", collect_once)
    with pytest.raises(EndError):  # without the call it would wait for an hour
        labelling._watch("ws", preset(), False, 3600.0, unused_port)
    assert runs == [False, False]


def test_what_a_webhook_needs(monkeypatch, tmp_path):
    monkeypatch.delenv("GUARDSET_WEBHOOK_SECRET", raising=False)
    with pytest.raises(FatalError, match="--webhook-port needs --watch"):
        labelling.collect(workspace=str(tmp_path), config=PRESET, webhook_port=1)
    with pytest.raises(FatalError, match="Set GUARDSET_WEBHOOK_SECRET"):
        labelling.collect(workspace=str(tmp_path), config=PRESET, watch=1.0, webhook_port=1)
