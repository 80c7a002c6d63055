"""Verifiable rewards for reinforcement learning: a completion and its ground truth to a number. Pure and deterministic.

`strict` is the default, `pair` adds the contrast between the sides of a pair, `rule_set` asks which rules are broken,
`paper_compat` reproduces the published values. What each of them cannot see: whether the reasoning is true, a
contradiction that is not an English sentence in so many words, and random words that are no padding by count.
"""

import functools
import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from guard.contract.prompt import Verdict, parse_answer, read_verdict
from storage.errors import FatalError

MIN_THINK_CHARACTERS = 50  # of `paper_compat`
FREE_WORDS, LONGEST_WORDS, LENGTH_PENALTY = 150, 300, 0.2  # 512 tokens hold about 350 English words

UNNAMED_RULES, SHARED_RULES = 0.5, 0.25  # of `rule_set`, whose exact set earns 1

_YES_NO: Mapping[str, Verdict] = {"yes": "safe", "no": "unsafe"}  # the column `answer`: is it safe?
_TAGGED = re.compile(r"<answer>(.*)</answer>")
_LENIENT_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_LENIENT_THINK = re.compile(r"<think>(.*?)</think>", re.IGNORECASE | re.DOTALL)
_LENIENT_WORDS: Mapping[str, Verdict] = {"yes": "safe", "safe": "safe", "no": "unsafe", "unsafe": "unsafe"}

# A sentence that concludes: `so it is safe`, `the verdict is: not safe`. A think's last one is held against the answer.
_SENTENCE = re.compile(r"[^.!?\n]+")
_CONCLUDES = re.compile(r"\b(?:so|therefore|thus|hence|verdict|answer|conclusion|overall)\b.*", re.IGNORECASE)
_CONCLUSION = re.compile(
    r"(?:\b(?:is|are|be|as|remains?|stays?|judged?|called?|considered|verdict|answer)|n't|:)\s+(?P<not>not\s+)?"
    r"(?P<verdict>safe|unsafe)\b",
    re.IGNORECASE,
)

# A run of letters and digits; a character of a script that writes no spaces is a word of its own.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+")
_ASCII_WORD = re.compile(r"[a-z0-9]+")  # the same in half the time, where there is nothing else


@dataclass(frozen=True, slots=True)
class Side:
    """Which side of which pair, under which policy, a completion judges. An empty `pair_id` stands alone."""

    pair_id: str
    role: str  # original, edited, sham, roundtrip
    policy_name: str


def truth_of(ground_truth: str) -> Verdict:
    """The label in any of the forms that our RL rows hold: `safe`, `unsafe: R1, R3`, either in answer tags, or `yes`
    for safe.

    Raises FatalError for anything else, an empty text above all: a missing label must never train as "unsafe".
    """
    return _truth(ground_truth)[0]


def _truth(ground_truth: str) -> tuple[Verdict, tuple[str, ...]]:
    """The label, and the broken rules where they are known."""
    if isinstance(ground_truth, str):
        if ground_truth in _YES_NO:
            return _YES_NO[ground_truth], ()
        tagged = _TAGGED.fullmatch(ground_truth)
        found = read_verdict(tagged[1] if tagged else ground_truth)
        if found is not None:
            return found
    raise FatalError(
        f"The ground truth {ground_truth!r} is neither safe nor unsafe. Check which column the trainer reads: "
        "`solution`, `answer` or `reward_model.ground_truth`."
    )


def strict(completion: str, ground_truth: str) -> float:
    """+1 for a right answer, -1 for a wrong or malformed one; -1 to 1.

    Well-formed is exactly one think, one answer and nothing else (`prompt.parse_answer`). A right answer whose think is
    padding (`is_padding`) or concludes the opposite (`contradicts`) earns 0, as one without a think. A right answer
    loses up to 0.2 for a think of more than 150 words, all of it from 300 words on. A wrong answer is worth as much as
    a malformed one, so that guessing never costs more than garbling. Constant verdicts earn 2p - 1 on average where p
    is the share of their label; 0 on balanced data.
    Raises FatalError for a ground truth that is no label.
    """
    truth = truth_of(ground_truth)
    answer = parse_answer(completion)
    if answer.verdict != truth:
        return -1.0
    words = _words(answer.think)
    if _is_padding(words, answer.think) or contradicts(answer.think, truth):
        return 0.0
    excess = (len(words) - FREE_WORDS) / (LONGEST_WORDS - FREE_WORDS)
    return 1.0 - LENGTH_PENALTY * min(1.0, max(0.0, excess))


def rule_set(completion: str, ground_truth: str) -> float:
    """`strict`, where a right `unsafe` is worth what the rules that it names are worth; -1 to 1.

    | answer | reward |
    |---|---|
    | wrong verdict, or malformed | -1 |
    | right, but the think is padding or concludes the opposite | 0 |
    | right and safe | 1 |
    | right and unsafe, with exactly the broken rules | 1 |
    | right and unsafe, with other rules or none | 0.5 + 0.25 F1 |

    F1 = 2 |named and broken| / (|named| + |broken|), so naming none is worth 0.5, and naming all of n rules where one
    is broken 0.5 + 0.5 / (n + 1). The order of the rules counts for nothing. A long think costs up to 0.2, as in
    `strict`. The broken rules stand in the ground truth (`unsafe: R1, R3`, where the export has `rl.name_rules`);
    where it names none they are not known, and the answer earns what `strict` gives.
    Raises FatalError for a ground truth that is no label.
    """
    earned, broken = strict(completion, ground_truth), set(_truth(ground_truth)[1])
    if earned <= 0 or not broken:
        return earned
    named = set(parse_answer(completion).rules)
    if named == broken:
        return earned
    f1 = 2 * len(named & broken) / (len(named) + len(broken))
    return earned - 1.0 + UNNAMED_RULES + SHARED_RULES * f1


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


REWARDS: Mapping[str, Callable[[str, str], float]] = {
    "strict": strict,
    "rule_set": rule_set,
    "paper_compat": paper_compat,
}


def contradicts(think: str, verdict: Verdict) -> bool:
    """Whether a think's last English conclusion (`so it is safe`, `verdict: not safe`) is the other verdict.

    A conclusion that holds both verdicts says neither; without one there is nothing to contradict.
    """
    for sentence in reversed(_SENTENCE.findall(think)):
        concludes = _CONCLUDES.search(sentence) if "safe" in sentence.lower() else None
        said = {_concluded(match) for match in _CONCLUSION.finditer(concludes[0])} if concludes else set()
        if said:
            return said == {"unsafe" if verdict == "safe" else "safe"}
    return False


def _concluded(match: re.Match[str]) -> Verdict:
    negated = match["not"] is not None or match[0].lower().startswith("n't")
    return "unsafe" if (match["verdict"].lower() == "safe") == negated else "safe"


def is_padding(think: str) -> bool:
    """Whether a text is filler rather than words. Words are runs of letters and digits, compared in lower case.

    Filler is any of: fewer than 3 different words; fewer than 1.5 sqrt(n) different ones among n; fewer than half of
    the three-word sequences different (loops); or fewer than half of the printed characters in words that have a
    letter and two different characters (`aaaa`, rows of dots, numbers).
    """
    return _is_padding(_words(think), think)


def _words(text: str) -> list[str]:
    """In lower case."""
    return (_ASCII_WORD if text.isascii() else _WORD).findall(text.lower())


def _is_padding(words: Sequence[str], think: str) -> bool:
    different = set(words)
    real = {word for word in different if _is_real(word)}
    if len(real) < max(3.0, 1.5 * math.sqrt(len(words))):
        return True
    triples = len(words) - 2
    # Hashes and not the triples themselves: 64 bits tell these few apart, and a third of the time is saved.
    if triples > 2 and 2 * len(set(map(hash, zip(words, words[1:], words[2:], strict=False)))) < triples:
        return True
    counted = words if len(real) == len(different) else [word for word in words if word in real]
    letters = sum(map(len, counted))
    return 2 * letters < len(think) and 2 * letters < sum(map(len, think.split()))


@functools.lru_cache(maxsize=2**16)  # a model's words repeat
def _is_real(word: str) -> bool:
    """Whether a word of `_WORD` has two different characters and is no number; one that needs no spaces is real."""
    return word[0] >= "\u3040" or (len(set(word)) > 1 and not word.isdigit())
