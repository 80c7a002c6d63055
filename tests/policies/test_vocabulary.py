"""What can be seen, by id, by label and by the words of a text."""

import pickle
import time

import pytest

from micro.world import VOCABULARY
from policies.vocabulary import Attribute, Vocabulary

HAT = Attribute(id="hat", synonyms=("cap", "Bowler"), sensitive=False)
MASK = Attribute(id="face_mask", sensitive=True)
ROBE = Attribute(id="robe", noun="long robe", synonyms=("gown",), sensitive=False)
CLOTHES = Vocabulary((HAT, MASK, ROBE))


def test_it_is_a_mapping_from_ids_in_the_order_of_the_file():
    assert list(CLOTHES) == ["hat", "face_mask", "robe"]
    assert (CLOTHES["hat"], len(CLOTHES), "robe" in CLOTHES, "shoe" in CLOTHES) == (HAT, 3, True, False)
    assert list(CLOTHES.values()) == [HAT, MASK, ROBE]
    with pytest.raises(KeyError):
        _ = CLOTHES["shoe"]


def test_a_noun_that_nobody_gave_is_the_id_with_blanks():
    assert (MASK.noun, HAT.noun, ROBE.noun) == ("face mask", "hat", "long robe")
    assert Attribute(id="face_mask", noun="face mask", sensitive=True) == MASK
    assert ROBE.words == ("long robe", "robe", "gown")


@pytest.mark.parametrize(
    ("label", "attribute"),
    [
        ("hat", "hat"),
        ("face_mask", "face_mask"),
        (" Face  Mask\n", "face_mask"),
        ("bowler", "hat"),
        ("Cap", "hat"),
        ("long robe", "robe"),
        ("hats", None),
        ("a hat", None),
        ("", None),
    ],
)
def test_a_label_is_an_id_a_noun_or_a_synonym(label, attribute):
    assert CLOTHES.named(label) == attribute


def test_a_text_mentions_attributes_by_noun_and_synonym_as_whole_words():
    assert VOCABULARY.mentioned("Two knives? No, a Dagger and three balls.") == {"blade", "ball"}
    assert VOCABULARY.mentioned("A football and a hourglass.") == frozenset()
    assert CLOTHES.mentioned("BOWLERS, and a face mask.") == {"hat", "face_mask"}
    assert CLOTHES.mentioned("A cap over a gown.") == {"hat", "robe"}


def one(noun: str, *synonyms: str) -> Vocabulary:
    return Vocabulary((Attribute(id="thing", noun=noun, synonyms=synonyms, sensitive=True),))


@pytest.mark.parametrize(
    ("noun", "text", "there"),
    [
        ("a.b-2", "An axb-2", False),
        ("C++", "A C++ book.", True),
        ("C++", "Two C++s.", True),
        ("C++", "A c++, a C+ and a C.", True),
        ("C++", "A C+ and a C.", False),
        (".45", "A .45.", True),
        (".45", "It is 0.45 m long.", False),  # the same signs inside a number
        (".45", "In 1990. 45 people.", False),
        ("Dr. Pepper", "A can of Dr. Pepper.", True),
        ("100% proof", "100% proof, it says", True),
        ("man/woman", "a man/woman sign", True),
        ("AK-47", "two AK-47s", True),
        ("6-pack", "A 6-pack.", True),
        ("6-pack", "A 16-pack.", False),
        ("T-shirt", "A t\u2011shirt.", True),  # a hyphen that does not break
        ("Molotov's", "A MOLOTOV\u2019S cocktail", True),
        ("Molotov's", "A Molotov.", False),
        ("knife", "A knife-like thing, a knife's edge", True),
        ("caf\u00e9", "A cafe\u0301.", True),
        ("cafe\u0301", "A caf\u00e9.", True),
        ("Yahoo!", "A Yahoo! sign", True),
        ("Washington D.C.", "in Washington D.C. today", True),
        ("\u043d\u043e\u0436", "\u041d\u041e\u0416!", True),  # Cyrillic
        ("\u5200", "A \u5200 at the left.", True),  # Chinese
        ("\u092c\u0902\u0926\u0942\u0915", "A \u092c\u0902\u0926\u0942\u0915.", True),  # Hindi: marks are no letters
    ],
)
def test_a_word_with_signs_or_of_any_script_is_found_as_it_is_written(noun, text, there):
    assert one(noun).mentioned(text) == ({"thing"} if there else frozenset())
    assert one(noun).named(noun.upper()) == "thing"


def test_blanks_and_signs_of_a_word_have_one_form():
    (thing,) = one(" face\n", "hate__symbol", "two  \tblanks", "cafe\u0301").attributes
    assert thing.words == (
        "face", "thing", "hate symbol", "two blanks", "caf\u00e9",
    )  # fmt: skip


def test_the_longer_of_two_phrases_counts():
    gun, toy = (Attribute(id=name, sensitive=True) for name in ("gun", "toy_gun"))
    both = Vocabulary((gun, toy))
    assert both.mentioned("A toy gun.") == {"toy_gun"}
    assert both.mentioned("A toy gun and two guns.") == {"toy_gun", "gun"}
    assert both.mentioned("A gun toy.") == {"gun"}


@pytest.mark.parametrize("text", ["", "a knife", "a C++, and", " a toy  gun's ", "toy gun toy gun"])
def test_the_parts_make_up_the_text(text):
    words = Vocabulary((Attribute(id="c", noun="C++", sensitive=True), Attribute(id="toy_gun", sensitive=True)))
    assert "".join(part for part, _ in words.parts(text)) == text


def test_two_with_the_same_attributes_are_equal_and_any_other_word_or_order_is_not():
    assert Vocabulary((HAT, MASK, ROBE)) == CLOTHES
    assert hash(CLOTHES) == hash(Vocabulary((HAT, MASK, ROBE)))
    assert CLOTHES.mentioned("hat")  # what was looked up meanwhile is no part of it
    assert pickle.loads(pickle.dumps(CLOTHES)) == CLOTHES
    others = [(HAT, MASK), (MASK, HAT, ROBE), (HAT.model_copy(update={"synonyms": ()}), MASK, ROBE)]
    assert all(Vocabulary(attributes) != CLOTHES for attributes in others)


def test_what_is_spoken_are_the_ids_with_all_their_words():
    assert CLOTHES.spoken == [
        ("hat", "hat", "hat", "cap", "Bowler"),
        ("face_mask", "face mask", "face mask"),
        ("robe", "long robe", "robe", "gown"),
    ]


def test_a_word_that_two_attributes_claim_is_found():
    assert CLOTHES.shared_words() == {}
    cape = Attribute(id="cape", synonyms=("Gown",), sensitive=False)
    assert Vocabulary((*CLOTHES.attributes, cape)).shared_words() == {
        "gown": ["robe", "cape"],
        "gowns": ["robe", "cape"],
    }


ARMS = Vocabulary(
    tuple(
        Attribute.model_validate(entry)
        for entry in (
            {"id": "handgun", "synonyms": ["gun", "pistol"], "not": ["water gun", "gun rack"], "sensitive": True},
            {"id": "knife", "sensitive": True},
            {"id": "wine", "sensitive": True},
            {"id": "ox", "plural": "oxen of burden", "sensitive": False},
        )
    )
)


@pytest.mark.parametrize(
    ("label", "attribute"),
    [
        ("guns", "handgun"),
        ("a handgun", "handgun"),
        ("Black Pistol", "handgun"),
        ("pistol on the table", "handgun"),
        ("hand-gun", "handgun"),
        ("glass of wine", "wine"),
        ("kitchen knife", "knife"),
        ("KNIVES", "knife"),
        ("oxen of burden", "ox"),
        ("water gun", None),
        ("gun rack", None),
        ("gun holster", None),
        ("man with a gun", None),
        ("person holding pistol", None),
        ("gun and knife", None),
        ("no gun", None),
        ("dragon", None),
        ("", None),
    ],
)
def test_what_a_label_means(label, attribute):
    assert ARMS.called(label) == attribute


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("no knife\nA gun lies on the table", {"handgun"}),
        ("No gun - a knife lies there", {"knife"}),
        ("A man who is not wearing a hat holds a knife", {"knife"}),
        ("A man fires a gun", {"handgun"}),
    ],
)
def test_a_denial_ends_where_something_else_begins(text, named):
    assert ARMS.mentioned(text) == named


@pytest.mark.parametrize("text", ["no knife, " * 600, "knife " * 3000, "no knife and " * 1000])
def test_a_text_that_repeats_itself_is_read_at_once(text):
    started = time.monotonic()
    ARMS.mentioned(text)
    assert time.monotonic() - started < 10  # it took minutes when the time grew with the cube
