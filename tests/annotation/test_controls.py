import pytest

from annotation.controls import read_controls
from storage.errors import FatalError


def test_known_answers_by_cell(tmp_path):
    path = tmp_path / "controls.csv"
    path.write_text("image_id,policy_id,verdict,note\na,L1,safe,x\na,L2,unsafe,\na,L1,safe,again\n")
    assert read_controls(path) == {("a", "L1"): "safe", ("a", "L2"): "unsafe"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image_id,verdict\na,safe\n", "must have the columns"),
        ("", "must have the columns"),
        ("image_id,policy_id,verdict\na,L1,unsure\n", "line 2: the verdict is 'unsure'"),
        ("image_id,policy_id,verdict\na,L1,safe\na,L1,unsafe\n", "line 3: a under L1 was answered differently"),
    ],
)
def test_a_file_that_cannot_be_used_is_a_plain_sentence(tmp_path, text, sentence):
    path = tmp_path / "controls.csv"
    path.write_text(text)
    with pytest.raises(FatalError, match=sentence):
        read_controls(path)


def test_no_file(tmp_path):
    with pytest.raises(FatalError, match="Cannot read"):
        read_controls(tmp_path / "none.csv")
