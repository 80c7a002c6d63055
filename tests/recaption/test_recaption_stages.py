"""What the stages of this room declare: what decides their output, and what they take."""

import pytest

from micro.world import VOCABULARY
from models.settings import ServerSettings
from policies.vocabulary import Vocabulary
from recaption.settings import CaptionSettings, MinimalitySettings, RewriteSettings
from recaption.stages import CAPTION, CERTIFY_RECAPTION, DELTA, REWRITE, Captioning, Judging, Rewriting

SERVER = ServerSettings(base_url="http://127.0.0.1:1/v1")
FEWER = Vocabulary(VOCABULARY.attributes[:-1])


def rewriting(*, certify=None, caption=None, vocabulary=VOCABULARY, **changes):
    settings = RewriteSettings.model_validate({"model": "m", "server": SERVER, **changes})
    looker = caption or CaptionSettings(model="c", server=SERVER)
    return Rewriting(settings, certify or MinimalitySettings(), looker, vocabulary)


def decides(**changes):
    return REWRITE.using(rewriting(**changes)).decides


STRICT, OTHER = MinimalitySettings(min_kept_ratio=0.9), CaptionSettings(model="d", server=SERVER)


def test_a_rewrite_depends_on_the_certificate_only_where_it_may_be_sent_back():
    assert decides(certify=STRICT) != decides()
    assert decides(certify=STRICT, retry=False) == decides(retry=False)


def test_a_rewrite_depends_on_the_captioner_only_where_it_looks_at_spans():
    assert decides(caption=OTHER) == decides()
    assert decides(caption=OTHER, confirm_spans=True) != decides(confirm_spans=True)


@pytest.mark.parametrize("change", [{"model": "n"}, {"temperature": 0.5}, {"look": True}, {"vocabulary": FEWER}])
def test_a_rewrite_depends_on_the_model_how_it_is_asked_and_the_words(change):
    assert decides(**change) != decides()


def test_a_rewrite_does_not_depend_on_where_and_how_fast_it_is_asked(tmp_path):
    elsewhere = ServerSettings(base_url="https://x.test/v1", timeout_s=1, max_in_flight=1)
    assert decides(server=elsewhere, batch_size=1, shard_rows=9) == decides()
    own = tmp_path / "rewrite.txt"
    own.write_text(rewriting().prompt)
    assert decides(prompt=own) == decides()  # the words of a prompt count, not its place
    own.write_text("Put {findings} into {caption}.")
    assert decides(prompt=own) != decides()


@pytest.mark.parametrize(
    ("changes", "needs"),
    [
        ({}, "server"),
        ({"server": None}, "gpu"),
        ({"caption": CaptionSettings(model="c")}, "server"),  # nobody asks the captioner
        ({"caption": CaptionSettings(model="c"), "confirm_spans": True}, "gpu"),
    ],
)
def test_what_a_rewrite_takes(changes, needs):
    assert REWRITE.using(rewriting(**changes)).needs == needs


def test_a_caption_depends_on_its_prompt_and_model_and_judgements_on_the_vocabulary():
    def told(**changes):
        settings = CaptionSettings.model_validate({"model": "m", "server": SERVER, **changes})
        return CAPTION.using(Captioning(settings)).decides

    assert told(batch_size=1, shard_rows=2) == told()
    assert all(told(**change) != told() for change in ({"model": "n"}, {"judge_refusals": True}, {"max_new_tokens": 9}))
    whole, fewer = (Judging(MinimalitySettings(), words, 64) for words in (VOCABULARY, FEWER))
    assert CERTIFY_RECAPTION.using(whole).decides != CERTIFY_RECAPTION.using(fewer).decides
    assert DELTA.using(VOCABULARY).decides != DELTA.using(FEWER).decides
