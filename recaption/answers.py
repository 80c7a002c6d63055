"""What a chat model's answer is worth before anybody uses its words."""

import re

from models.chat import ChatReply
from storage.errors import SampleError

# How refusals begin or what they always say. Checked on the first 200 characters, where a refusal shows itself.
_REFUSAL = re.compile(
    r"\b(?:i(?:'m| am) sorry|i (?:can(?:no|')t|cannot|won't|will not|am (?:un|not )able)|"
    r"(?:un|not )able to (?:assist|help)|as an ai\b|against (?:my|our) (?:policy|guidelines)|content policy)",
    re.IGNORECASE,
)
_THINK = re.compile(r"<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"^```\w*\n(.*?)\n?```$", re.DOTALL)


def clean_answer(reply: ChatReply, *, stage: str) -> str:
    """The answer's text without thinking and fences.

    Raises SampleError `<stage>_truncated`, `<stage>_empty` or `<stage>_refused`.
    """
    if reply.finish_reason == "length":
        raise SampleError(f"{stage}_truncated", f"No end after {reply.completion_tokens} tokens.")
    text = _THINK.sub("", reply.text).strip()
    fenced = _FENCE.match(text)
    text = " ".join((fenced.group(1) if fenced else text).split())
    if not text:
        raise SampleError(f"{stage}_empty", "The answer has no words.")
    if is_refusal(text):
        raise SampleError(f"{stage}_refused", text[:200])
    return text


def is_refusal(text: str) -> bool:
    """Whether a text opens like a refusal."""
    return bool(_REFUSAL.search(text[:200].replace("\u2019", "'")))
