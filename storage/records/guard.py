"""What guards are asked, and their answers."""

from dataclasses import dataclass
from typing import ClassVar, Literal


@dataclass(frozen=True, slots=True)
class GuardQuestion:
    """What a guard is asked: one image and one prompt. `run` numbers identical repetitions."""

    SCHEMA_VERSION: ClassVar[int] = 1

    question_id: str
    blob: str
    prompt: str
    run: int


@dataclass(frozen=True, slots=True)
class GuardAnswer:
    """What a guard answered. `problem` is empty for a valid answer, else why it is invalid."""

    SCHEMA_VERSION: ClassVar[int] = 1

    question_id: str
    text: str
    verdict: Literal["safe", "unsafe", "invalid"]
    problem: str
    refused: bool
    prompt_tokens: int
    completion_tokens: int
    latency_s: float
