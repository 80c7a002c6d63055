"""Where a look-up has to look, and what the loss says of a head that looks there."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from micro.networks.guard_base import prompts
from micro.networks.guard_examples import drill_example
from micro.networks.guard_lookups import NOWHERE, look_up_loss, look_up_places, named_at, names_of_kinds
from micro.networks.guard_policies import SYNONYMS
from micro.networks.guard_tokenizer import guard_tokenizer
from micro.world import VOCABULARY

TOKENIZER = guard_tokenizer(prompts())
NAMES = names_of_kinds(TOKENIZER)


def ids(text: str) -> list[int]:
    return list(TOKENIZER(text)["input_ids"])


def test_nouns_and_synonyms_name_their_kinds_and_longer_names_win():
    text = ids("A dagger or a potted plant is unsafe. A plant is safe.")
    found = named_at(text, NAMES)
    assert [kind for _, kind in found] == ["blade", "plant", "plant"]
    # tokens: A| dagger| or| a| potted| plant| is| unsafe|.| A| plant| is| safe|.
    assert [place for place, _ in found] == [1, 5, 10]


def test_a_kind_is_looked_up_where_the_policy_names_it_or_nowhere():
    prompt, answer = ids("A dagger is unsafe."), ids("The image shows a cup: safe, a knife: unsafe.")
    # prompt: A| dagger| is| unsafe|.  answer: The| image| shows| a| cup|: |safe|, |a... the names are its own tokens
    (cup, cup_seen), (knife, knife_seen) = look_up_places(prompt, answer, NAMES)
    assert cup_seen == [NOWHERE]
    assert knife_seen == [1]
    assert [(prompt + answer)[place] for place in (cup, knife)] == [ids(" cup")[0], ids(" knife")[0]]


@given(st.integers(0, 2**40))
def test_every_kind_of_an_answer_is_looked_up_where_it_stands_in_the_prompt(seed):
    asked, said = drill_example(prompts(), seed)
    prompt, answer = ids(asked), ids(said)
    endings = {
        kind: {ids(f" {word}")[-1] for word in (entry.noun, SYNONYMS.get(kind, entry.noun))}
        for kind, entry in VOCABULARY.items()
    }
    whole = prompt + answer
    for place, seen in look_up_places(prompt, answer, NAMES):
        kind = next(kind for kind, ends in endings.items() if whole[place] in ends)
        ends = [token in endings[kind] for token in prompt]
        named = [at for at, end in enumerate(ends) if end and not ends[at + 1]]  # "heart symbol" ends once
        assert seen == (named or [NOWHERE])


def test_the_loss_is_the_share_of_attention_that_misses():
    attention = torch.zeros(1, 2, 3, 3)
    attention[0, 0, 2] = torch.tensor([0.25, 0.25, 0.5])
    # half of the head's attention, on places 0 and 1: -log(0.5)
    assert float(look_up_loss(attention, [[(2, [0, 1])]])) == pytest.approx(0.693, abs=1e-3)
    attention[0, 0, 2] = torch.tensor([0.0, 0.0, 1.0])
    assert float(look_up_loss(attention, [[(2, [2])]])) == pytest.approx(0.0, abs=1e-3)
    assert float(look_up_loss(attention, [[]])) == 0.0
