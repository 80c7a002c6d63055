"""How texts are asked for, and what they cost."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from models.chat import ChatReply
from storage.records import Generation


@dataclass(frozen=True)
class Sampling:
    """How a model is sampled, and the names that the records keep. Temperature 0 is greedy and ignores the seed."""

    temperature: float = 0.0
    seed: int = 0
    model_id: str = ""
    revision: str = ""
    prompt_file: str = ""

    def spent(self, reply: ChatReply) -> Generation:
        """The record of one answer."""
        return Generation(
            model_id=self.model_id,
            revision=self.revision,
            prompt_file=self.prompt_file,
            temperature=self.temperature,
            seed=self.seed,
            requests=1,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
        )


def plus(generation: Generation | None, requests: int, prompt_tokens: int, completion_tokens: int) -> Generation | None:
    """The record with more requests added; None, that is no request so far, stays None."""
    if generation is None:
        return None
    return replace(
        generation,
        requests=generation.requests + requests,
        prompt_tokens=generation.prompt_tokens + prompt_tokens,
        completion_tokens=generation.completion_tokens + completion_tokens,
    )


@dataclass(frozen=True)
class Prices:
    """What a server charges, in any currency per million tokens."""

    prompt: float = 0.0
    completion: float = 0.0


@dataclass(frozen=True)
class Usage:
    """What a set of rows cost."""

    requests: int
    prompt_tokens: int
    completion_tokens: int

    def cost(self, prices: Prices) -> float:
        """In the prices' currency."""
        return (self.prompt_tokens * prices.prompt + self.completion_tokens * prices.completion) / 1_000_000


def usage(generations: Iterable[Generation | None]) -> Usage:
    """The sum over rows; None costs nothing."""
    spent = [generation for generation in generations if generation is not None]
    return Usage(
        sum(generation.requests for generation in spent),
        sum(generation.prompt_tokens for generation in spent),
        sum(generation.completion_tokens for generation in spent),
    )
