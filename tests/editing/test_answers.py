"""What a model's answer lists, however it is written; nothing is there only where the answer is an empty list."""

import pytest

from editing.answers import listed_objects
from storage.errors import SampleError

A, B = {"label": "a", "bbox_2d": [1, 2, 3, 4]}, {"label": "b", "bbox_2d": [5, 6, 7, 8]}
ONE = '{"label": "a", "bbox_2d": [1, 2, 3, 4]}'
TWO = '{"label": "b", "bbox_2d": [5, 6, 7, 8]}'


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (f"[{ONE}, {TWO}]", [A, B]),
        (f"[{ONE}]\n[{TWO}]", [A, B]),
        (f"{ONE}\n{TWO}", [A, B]),
        (f'{{"found": [{ONE}], "more": {{"rest": [{TWO}]}}}}', [A, B]),
        (f'{{"nothing": [], "found": [{ONE}]}}', [A]),
        (f"Here [] they are: ```json\n[{ONE}, {TWO},]\n```", [A, B]),
        (f"[{ONE}, {TWO}", [A, B]),
        (f"[{ONE.replace(chr(34), chr(39))}, {TWO}]", [A, B]),
        ("[]", []),
        ('<think>[{"label": "x"}]</think> []', []),
        (" ```json\n[ ]\n``` ", []),
    ],
)
def test_every_object_is_found_however_it_is_written(answer, found) -> None:
    assert listed_objects(answer) == found


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "Nothing is visible.",
        "No weapons: []",
        "[] and so the image is safe",
        '{"findings": []}',
        "{}",
        "[[]]",
        "[[1, 2, 3, 4]]",
        "[1, 2]",
        "null",
        "I'm sorry, I cannot help with that. []",
        "[" * 100_000,
        '[{"label": ' * 5_000,
    ],
)
def test_what_is_no_list_is_asked_for_again(answer) -> None:
    with pytest.raises(SampleError) as caught:
        listed_objects(answer)
    assert caught.value.code == "locator_unparsable"
