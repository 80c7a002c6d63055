"""Verifiable rewards for reinforcement learning: a completion and its ground truth to a number. Pure and deterministic.

`strict` is the default, `pair` adds the contrast between the sides of a pair, `paper_compat` reproduces the published
values. What each of them cannot see: whether the reasoning is true, and random words that are no padding by count.
"""

import functools
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from guard.contract.prompt import parse_answer
from storage.errors import FatalError

SafetyLabel = Literal["safe", "unsafe"]

MIN_THINK_CHARACTERS = 50  # of `paper_compat`
FREE_WORDS, LONGEST_WORDS, LENGTH_PENALTY = 150, 300, 0.2  # 512 tokens hold about 350 English words

_TRUTHS: Mapping[str, SafetyLabel] = {
    "safe": "safe",
    "unsafe": "unsafe",
    "<answer>safe</answer>": "safe",
    "<answer>unsafe</answer>": "unsafe",
    "yes": "safe",  # the column `answer`: is it safe?
    "no": "unsafe",
}
_LENIENT_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_LENIENT_THINK = re.compile(r"<think>(.*?)</think>", re.IGNORECASE | re.DOTALL)
_LENIENT_WORDS: Mapping[str, SafetyLabel] = {"yes": "safe", "safe": "safe", "no": "unsafe", "unsafe": "unsafe"}

# A run of letters and digits; a character of a script that writes no spaces is a word of its own.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")


@dataclass(frozen=True, slots=True)
class Side:
    """Which side of which pair, under which policy, a completion judges. An empty `pair_id` stands alone."""

    pair_id: str
    role: str  # original, edited, sham, roundtrip
    policy_name: str


def truth_of(ground_truth: str) -> SafetyLabel:
    """The label in any of the forms that our RL rows hold: `safe`, `<answer>safe</answer>`, or `yes` for safe.

    Raises FatalError for anything else, an empty text above all: a missing label must never train as "unsafe".
    """
    try:
        return _TRUTHS[ground_truth]
    except (KeyError, TypeError) as error:
        raise FatalError(
            f"The ground truth {ground_truth!r} is neither safe nor unsafe. Check which column the trainer reads: "
            "`solution`, `answer` or `reward_model.ground_truth`."
        ) from error


def strict(completion: str, ground_truth: str) -> float:
    """+1 for a right answer, -1 for a wrong or malformed one; -1 to 1.

    Well-formed is exactly one think, one answer and nothing else (`prompt.parse_answer`). A right answer whose think is
    padding (`is_padding`) earns 0. A right answer loses up to 0.2 for a think of more than 150 words, all of it from
    300 words on. A wrong answer is worth as much as a malformed one, so that guessing never costs more than
    garbling. Constant verdicts earn 2p - 1 on average where p is the share of their label; 0 on balanced data.
    Raises FatalError for a ground truth that is no label.
    """
    truth = truth_of(ground_truth)
    answer = parse_answer(completion)
    if answer.verdict != truth:
        return -1.0
    words = _WORD.findall(answer.think.lower())
    if _is_padding(words, answer.think):
        return 0.0
    excess = (len(words) - FREE_WORDS) / (LONGEST_WORDS - FREE_WORDS)
    return 1.0 - LENGTH_PENALTY * min(1.0, max(0.0, excess))


def pair(completions: Sequence[str], ground_truths: Sequence[str], sides: Sequence[Side]) -> list[float]:
    """`strict` with contrast: a right answer counts as far as the other sides of its pair are answered right, too.

    Over one batch, reward = strict x r for a right answer, where r is the mean, over the other sides of the same pair
    under the same policy that are in the batch, of the share of right completions there. -1 for a wrong answer as
    before. A completion that has no other side in the batch gets its `strict` reward. So a guard with one verdict for
    both sides of an opposite-label pair earns at most 0 on each, whatever the label balance of the batch.
    Advantages that are divided by a group's deviation cancel r, which is constant within the group of one prompt:
    in TRL set `scale_rewards` to "none" or "batch". Lengths must be equal (ValueError).
    Raises FatalError for a ground truth that is no label.
    """
    base = [strict(c, t) for c, t in zip(completions, ground_truths, strict=True)]
    right: dict[tuple[str, str], dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for completion, truth, side in zip(completions, ground_truths, sides, strict=True):
        right[side.pair_id, side.policy_name][side.role].append(parse_answer(completion).verdict == truth_of(truth))
    return [
        reward * _contrast(right[side.pair_id, side.policy_name], side) if reward > 0 else reward
        for reward, side in zip(base, sides, strict=True)
    ]


def _contrast(right: Mapping[str, Sequence[bool]], side: Side) -> float:
    """Mean share of right completions over the other roles of a pair; 1 where there are none."""
    others = [sum(found) / len(found) for role, found in right.items() if role != side.role]
    return sum(others) / len(others) if side.pair_id and others else 1.0


def paper_compat(completion: str, ground_truth: str) -> float:
    """The published values (arXiv 2603.01228, its authors' training script), for comparison only; 0 to 2.

    | | think of 50 characters or more | less |
    |---|---|---|
    | right, unsafe | 2.0 | 1.5 |
    | right, safe | 1.7 | 1.2 |
    | wrong | 1.0 | 0.5 |
    | no verdict | 0.5 | 0.0 |

    As there, the first think and the first answer count, in any case, whatever follows, and characters are counted
    without asking what they say. The answer is yes (safe) or no; `safe` and `unsafe`, which our prompt asks for, are
    read alike. Other than there, a ground truth that is no label raises FatalError instead of meaning unsafe.
    """
    truth = truth_of(ground_truth)
    think, answer = _LENIENT_THINK.search(completion), _LENIENT_ANSWER.search(completion)
    thought = think is not None and len(think[1].strip()) >= MIN_THINK_CHARACTERS
    verdict = _LENIENT_WORDS.get(answer[1].strip().lower()) if answer else None
    if verdict is None:
        return 0.5 if thought else 0.0
    if verdict != truth:
        return 1.0 if thought else 0.5
    return (2.0 if truth == "unsafe" else 1.7) - (0.0 if thought else 0.5)


REWARDS: Mapping[str, Callable[[str, str], float]] = {"strict": strict, "paper_compat": paper_compat}


def is_padding(think: str) -> bool:
    """Whether a text is filler rather than words. Words are runs of letters and digits, compared in lower case.

    Filler is any of: fewer than 3 different words; fewer than 1.5 sqrt(n) different ones among n; fewer than half of
    the three-word sequences different (loops); or fewer than half of the printed characters in words that have a
    letter and two different characters (`aaaa`, rows of dots, numbers).
    """
    return _is_padding(_WORD.findall(think.lower()), think)


def _is_padding(words: Sequence[str], think: str) -> bool:
    real = [w for w in words if _is_real(w)]
    if len(set(real)) < max(3.0, 1.5 * math.sqrt(len(words))):
        return True
    triples = list(zip(words, words[1:], words[2:], strict=False))
    if len(triples) > 2 and 2 * len(set(triples)) < len(triples):
        return True
    return 2 * sum(map(len, real)) < sum(map(len, think.split()))


@functools.lru_cache(maxsize=2**16)  # a model's words repeat
def _is_real(word: str) -> bool:
    """Whether a word of `_WORD` has two different characters and is no number; one that needs no spaces is real."""
    return word[0] >= "\u3040" or (len(set(word)) > 1 and not word.isdigit())
