"""Finds the text of a model that got stuck."""

_LONGEST_RUN = 24  # words; a loop longer than this does not fit three times into a caption
_WINDOW = 4


def is_looped(words: list[str], *, repeats: int = 3, min_distinct: float = 0.5) -> bool:
    """Whether a text goes round in circles; words are compared without case.

    Either a run of 2 to 24 words (or one word, `repeats` + 1 times: "very very very" is still English) stands
    `repeats` times in a row, or fewer than `min_distinct` of the 4-grams of a text of 24 words and more are
    distinct, which catches a loop that changes a word each time round.
    """
    lower = [word.lower() for word in words]
    return _back_to_back(lower, repeats) or _stale(lower, min_distinct)


def _back_to_back(words: list[str], repeats: int) -> bool:
    for run in range(1, min(_LONGEST_RUN, len(words) // repeats) + 1):
        wanted = run * (repeats if run == 1 else repeats - 1)  # equal pairs at distance `run`, one after the other
        equal = 0
        for index in range(len(words) - run):
            equal = equal + 1 if words[index] == words[index + run] else 0
            if equal == wanted:
                return True
    return False


def _stale(words: list[str], min_distinct: float) -> bool:
    if len(words) < 6 * _WINDOW:
        return False
    grams = [tuple(words[index : index + _WINDOW]) for index in range(len(words) - _WINDOW + 1)]
    return len(set(grams)) < min_distinct * len(grams)
