"""An unknown key is answered with the one that was meant; other faults have words of their own."""

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from storage.validation import faults_of


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Price(Strict):
    prompt: float = 0
    completion: float = 0


class Server(Strict):
    base_url: str = ""
    timeout_s: float = 1


class Step(Strict):
    strength: float = 1
    server: Server | None = None


class Config(Strict):
    threads: int = 1
    step: Step = Step()
    prices: dict[str, Price] = {}
    servers: tuple[Server, ...] = ()


def faults(raw):
    with pytest.raises(ValidationError) as caught:
        Config.model_validate(raw)
    return faults_of(caught.value, Config)


@pytest.mark.parametrize(
    ("raw", "line"),
    [
        ({"thread": 2}, "thread: unknown key `thread`; did you mean `threads`?"),
        ({"step": {"strenght": 1}}, "step.strenght: unknown key `strenght`; did you mean `strength`?"),
        ({"step": {"server": {"base": ""}}}, "step.server.base: unknown key `base`; did you mean `base_url`?"),
        ({"prices": {"m": {"promt": 1}}}, "prices.m.promt: unknown key `promt`; did you mean `prompt`?"),
        ({"servers": [{}, {"timeout": 1}]}, "server 2, timeout: unknown key `timeout`; did you mean `timeout_s`?"),
        ({"strength": 1}, "strength: unknown key `strength`; did you mean `step.strength`?"),  # one level too high
        ({"step": {"x": 1}}, "step.x: unknown key `x`; known here: strength, server"),
        ({"threads": "two"}, "threads: must be a whole number, not 'two'"),
    ],
)
def test_each_fault_is_a_line(raw, line):
    assert faults(raw) == [line]


def test_all_faults_are_told():
    assert [line.split(":")[0] for line in faults({"a": 1, "step": {"strength": "x", "b": 2}})] == [
        "step.strength", "step.b", "a",
    ]  # fmt: skip
