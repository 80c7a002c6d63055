"""What can be seen, by id, by label and by the words of a text."""

import pickle

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


def test_a_word_with_signs_is_taken_as_it_is():
    odd = Vocabulary((Attribute(id="sign", noun="a.b (old)", sensitive=False),))
    assert odd.mentioned("axb (old)") == frozenset()
    assert odd.named("A.B (old)") == "sign"


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
    assert Vocabulary((*CLOTHES.attributes, cape)).shared_words() == {"gown": ["robe", "cape"]}
