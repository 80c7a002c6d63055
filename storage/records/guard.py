"""What guards are asked, and their answers."""

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True, slots=True)
class GuardQuestion:
    """What a guard is asked: one image and one prompt. `run` numbers identical repetitions. `arguments` of the chat
    template are JSON."""

    SCHEMA_VERSION: ClassVar[int] = 2

    question_id: str
    blob: str
    prompt: str
    run: int
    system: str = ""
    arguments: str = "{}"


@dataclass(frozen=True, slots=True)
class GuardAnswer:
    """What a guard answered. `problem` is empty for a valid answer, else why it is invalid. `named` are the rules that
    it names, in its own words; `repaired` says whether the answer had to be mended to be read; `score` is its
    probability (0..1) of unsafe, None where it gives none."""

    SCHEMA_VERSION: ClassVar[int] = 2

    question_id: str
    text: str
    verdict: Literal["safe", "unsafe", "invalid"]
    problem: str
    refused: bool
    prompt_tokens: int
    completion_tokens: int
    latency_s: float
    named: tuple[str, ...] = ()
    repaired: bool = False
    score: float | None = None
