"""What a chat model's answer is worth before anybody uses its words."""

import re
import unicodedata
from collections.abc import Sequence

from models.chat import ChatModel, ChatReply, ChatRequest
from recaption.language import foreign_language
from recaption.loops import is_looped
from recaption.prompt_files import check_placeholders, fill, refusal_rules, shipped
from recaption.spans import words
from storage.errors import SampleError

_HEAD = 200  # characters in which a refusal shows itself
_THINK = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.DOTALL)
_THINK_END = re.compile(r"^.*</think(?:ing)?>", re.DOTALL)  # some templates put the opening tag into the prompt
_THINK_OPEN = re.compile(r"<think(?:ing)?>")
_FENCE = re.compile(r"^```\w*\n(.*?)\n?```$", re.DOTALL)
_QUOTED = re.compile(r'"[^"]*"|\u201c[^\u201d]*\u201d')
_YES_NO = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


def clean_answer(reply: ChatReply, *, stage: str) -> str:
    """The answer's text without thinking and fences.

    Raises SampleError `<stage>_looped`, `<stage>_truncated`, `<stage>_empty`, `<stage>_refused` or
    `<stage>_not_english`. A loop is named before the missing end that it causes.
    """
    text = answer_text(reply.text)
    if is_looped(words(text)):
        raise SampleError(f"{stage}_looped", text[-_HEAD:])
    if reply.finish_reason == "length" or _THINK_OPEN.search(text):
        raise SampleError(f"{stage}_truncated", f"No end after {reply.completion_tokens} tokens.")
    if not text:
        raise SampleError(f"{stage}_empty", "The answer has no words.")
    if is_refusal(text):
        raise SampleError(f"{stage}_refused", text[:_HEAD])
    language = foreign_language(text)
    if language is not None:
        raise SampleError(f"{stage}_not_english", f"Its language is {language}: {text[:_HEAD]}")
    return text


def answer_text(raw: str) -> str:
    """The answer on one line and in NFC, without thinking and fences."""
    text = _THINK_END.sub("", _THINK.sub("", raw)).strip()
    fenced = _FENCE.match(text)
    return unicodedata.normalize("NFC", " ".join((fenced.group(1) if fenced else text).split()))


def is_refusal(text: str) -> bool:
    """Whether a text opens like a refusal, by the sure rules of `prompts/refusals.txt`."""
    return any(rule.search(_head(text)) for rule in refusal_rules().sure)


def hints_at_refusal(text: str) -> bool:
    """Whether a text opens in a way that is worth a question to a judge."""
    return any(rule.search(_head(text)) for rule in refusal_rules().hints)


def _head(text: str) -> str:
    """The beginning, without what it quotes: a sign in the image may say "I can't"."""
    return _QUOTED.sub("", text[:_HEAD].replace("\u2019", "'"))


def says_yes(text: str) -> bool | None:
    """True for an answer that begins with yes, False for no, None for anything else."""
    found = _YES_NO.match(answer_text(text))
    return None if found is None else found[1].lower() == "yes"


class RefusalJudge:
    """Asks a chat model whether a text declines to describe; only texts that hint at it are worth the question."""

    def __init__(self, model: ChatModel, prompt: str | None = None, max_new_tokens: int = 16) -> None:
        self._model = model
        self._prompt = check_placeholders(prompt or shipped("judge_refusal"), ("answer",), "refusal judge's")
        self._max_new_tokens = max_new_tokens

    def refused(self, texts: Sequence[str]) -> list[bool]:
        """One verdict per text. An answer that is neither yes nor no counts as a refusal: a caption that is in
        doubt costs one row, a refusal among the captions teaches refusing."""
        asked = [ChatRequest(fill(self._prompt, answer=text), (), self._max_new_tokens) for text in texts]
        return [says_yes(reply.text) is not False for reply in self._model.generate(asked)]
