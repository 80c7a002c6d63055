"""What a sentence names, on 150 that others wrote; nobody looked at file b while the matcher was written."""

import json
from pathlib import Path

import pytest
import yaml

from policies.vocabulary import Attribute, Vocabulary

HERE = Path(__file__).parent
WORDS = Vocabulary(
    tuple(
        Attribute.model_validate(entry)
        for entry in yaml.safe_load((HERE / "sentences-vocabulary.yaml").read_text())["attributes"]
    )
)


@pytest.mark.parametrize(("part", "least"), [("a", 75), ("b", 73)])
def test_sentences_name_what_their_writer_says(part: str, least: int, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.loads(line) for line in (HERE / f"sentences-{part}.jsonl").read_text().splitlines()]
    wrong = [
        (row, sorted(WORDS.mentioned(row["text"]))) for row in rows if WORDS.mentioned(row["text"]) != {*row["named"]}
    ]
    assert len(rows) == 75
    assert len(rows) - len(wrong) >= least, "\n".join(
        f"{row['text']} -> {found}, not {row['named']}" for row, found in wrong
    )
