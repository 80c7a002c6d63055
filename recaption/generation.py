"""How texts are asked for, and what each took; `models.metering` adds up money."""

from dataclasses import dataclass, replace

from models.chat import ChatReply
from recaption.settings import CaptionSettings, RewriteSettings
from storage.records.recaption import Generation


@dataclass(frozen=True)
class Sampling:
    """How a model is sampled, and the names that the records keep. Temperature 0 is greedy and ignores the seed."""

    temperature: float = 0.0
    seed: int = 0
    model_id: str = ""
    revision: str = ""
    prompt_file: str = ""

    @classmethod
    def of(cls, settings: CaptionSettings | RewriteSettings, step: str) -> "Sampling":
        """As the settings of a step say."""
        prompt_file = settings.prompt.name if settings.prompt else f"{step}.txt"
        return cls(settings.temperature, settings.seed, settings.model, settings.revision or "", prompt_file)

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
