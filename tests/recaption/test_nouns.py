"""A noun that the loader takes can be written into a caption and certified; any other is refused when it is loaded."""

import unicodedata
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policies.loading import load_policy_set
from policies.vocabulary import Vocabulary
from recaption.answers import answer_text
from recaption.certify import judge
from recaption.settings import MinimalitySettings
from recaption.spans import diff
from storage.errors import FatalError
from storage.records.recaption import Placed, Recaption

CAPTION = "Grey walls with some windows."
WAYS = (
    "Grey walls with some windows. There is a {noun} in the upper left.",
    "Grey walls with a {noun} at the upper left and some windows.",
    "Grey walls with some windows; in the upper left, a {noun}.",
    "Grey walls with some windows, and {noun}s at the upper left.",
)
PLAUSIBLE = (
    "C++|C#|.45|Dr. Pepper|100% proof|man/woman|AK-47|6-pack|T-shirt|Molotov's|M&M's|1,000 dollar bill|Yahoo!|"
    "Washington D.C.|two  blanks|hate_symbol|knife\n|no entry sign|upper lip|caf\u00e9|cafe\u0301|"
    "\u043d\u043e\u0436|\u5200|\u0633\u0644\u0627\u062d|\u092c\u0902\u0926\u0942\u0915|"
    "warning sign|safe|offensive gesture|picture"  # words of the certificate's own lists
).split("|")
ODD = "abz AZ019.-'/+%&#!?,;:{}()\"\n_\u00df\u00e9\u0130\u0301\u0438\u0942\u200b\u200d\u2019\u5200"


def loaded(folder: Path, noun: str) -> Vocabulary:
    attributes = [{"id": "thing_x", "noun": noun, "sensitive": True}]
    rule = {"id": "R1", "text": "T.", "unsafe_when": ["thing_x"]}
    policy = {"id": "House", "name": "N", "setting": "S.", "preamble": "P.", "rules": [rule]}
    for name, content in (("vocabulary", {"attributes": attributes}), ("House", policy)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return load_policy_set(folder).vocabulary


def reasons(written: str, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Against a rewriter's answer that restores the attribute: one of it, or two where it names several."""
    text = answer_text(written)
    found = (Placed("thing_x", "upper left"),) * (1 if " a " in written else 2)
    change = diff(CAPTION, text, vocabulary)
    row = Recaption(
        "i", CAPTION, text, ("thing_x",), change.inserted, change.deleted, change.kept_ratio, change.length_ratio,
        "m", "p", None, (), findings=found,
    )  # fmt: skip
    return judge(row, MinimalitySettings(), vocabulary)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("noun", PLAUSIBLE)
def test_a_plausible_noun_can_be_certified_and_nothing_beside_it(tmp_path, noun, way) -> None:
    vocabulary = loaded(tmp_path, noun)
    said = vocabulary["thing_x"].noun
    for form in ("NFC", "NFD"):  # a model may write either
        assert reasons(unicodedata.normalize(form, way.format(noun=said)), vocabulary) == ()
    assert reasons(way.format(noun=f"bloody {said}"), vocabulary) == ("needs_witness",)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noun=st.text(ODD, max_size=8), way=st.sampled_from(WAYS))
def test_a_noun_is_certified_or_refused_when_it_is_loaded(tmp_path, noun, way) -> None:
    try:
        vocabulary = loaded(tmp_path, noun)
    except FatalError:
        return
    assert reasons(way.format(noun=vocabulary["thing_x"].noun), vocabulary) == ()


def test_a_span_stands_as_it_was_written_so_that_a_looker_is_asked_about_real_words(tmp_path) -> None:
    change = diff(CAPTION, "Grey walls with a C++ (book) and some windows.", loaded(tmp_path, "C++"))
    assert [(span.text, span.grounding) for span in change.inserted] == [("a C++ (book) and", ("thing_x",))]


def test_a_judging_word_counts_beside_the_noun_that_holds_it(tmp_path) -> None:
    vocabulary = loaded(tmp_path, "warning sign")
    assert reasons(f"{CAPTION} A warning: a warning sign in the upper left.", vocabulary)[0] == "verdict_word"
