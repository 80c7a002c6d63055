"""A caption in another language is refused by name; an English one with foreign names is not."""

import pytest

from models.chat import ChatReply
from recaption.answers import clean_answer
from recaption.language import foreign_language
from storage.errors import SampleError


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Ein Mann h\u00e4lt eine Pistole in der Hand und zielt.", "de"),
        ("Un homme tient une arme \u00e0 feu pr\u00e8s d'une voiture.", "fr"),
        ("Un perro corre en la playa.", "es"),
        ("\u7537\u304c\u9283\u3092\u6301\u3063\u3066\u3044\u308b", "ja"),
        ("Een man met een mes", "nl"),
        ("\u7537\u4eba\u62ff\u7740\u67aa\u7ad9\u5728 THE BAR \u95e8\u53e3\uff0c\u5929\u8272\u5df2\u665a", "zh"),
        ("A man holds a handgun near a car.", None),
        ("Sushi and ramen", None),
        ("Caf\u00e9 au lait and croissants on a table in Paris", None),
        ("Nike sneakers, Adidas bag, Coca Cola", None),
        ("The sign says 'Bonjour tout le monde' in French.", None),
        ("graffiti on a wall", None),
        ("A cup.", None),
    ],
)
def test_only_what_is_surely_not_english_is_named(text, language) -> None:
    assert foreign_language(text) == language


def test_an_answer_in_another_language_has_its_own_code() -> None:
    with pytest.raises(SampleError) as caught:
        clean_answer(ChatReply("Ein Mann h\u00e4lt eine Pistole in der Hand.", "stop", (), 1, 9, 0.1), stage="caption")
    assert caught.value.code == "caption_not_english"
    assert "language is de" in caught.value.detail
