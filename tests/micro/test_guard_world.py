"""The policies that the micro guard reads, and what it is pretrained on."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from guard.contract.prompt import CAPTION_QUESTION, parse_answer
from micro.networks.guard_base import prompts
from micro.networks.guard_examples import drill_example, question_example, reasoned_answer, verdict_example
from micro.networks.guard_policies import MicroRule, draw_policy, held_out, kept_apart, meaning, restated, write_policy
from micro.networks.guard_tokenizer import guard_tokenizer, unknown_words
from micro.networks.tokenizers_word import vlm_tokenizer
from micro.world import VOCABULARY, WORLD

SEEDS = st.integers(0, 2**40)
SHOWN = st.lists(st.sampled_from(sorted(VOCABULARY)), max_size=4, unique=True)


def test_the_five_policies_mean_what_the_shipped_ones_mean():
    for shipped, micro in zip(WORLD, restated(), strict=True):
        assert meaning(shipped.rules) == meaning(micro.rules)
        assert shipped.id == micro.id


@given(SEEDS)
def test_no_pretraining_policy_says_what_an_evaluated_one_says(seed):
    policy = draw_policy(seed)
    assert not policy.rules or meaning(policy.rules) not in kept_apart()


def test_held_out_policies_are_five_and_differ_from_the_five():
    said = {meaning(policy.rules) for policy in held_out()}
    assert len(said) == 5
    assert not said & {meaning(policy.rules) for policy in restated()}


def test_a_rule_has_many_wordings():
    rules = [MicroRule(("blade",), ("museum_label",))]
    assert len({write_policy("P", rules, [], seed).rules[0].text for seed in range(200)}) > 30


@given(SEEDS, SHOWN)
def test_an_answer_is_well_formed_and_right_about_what_it_names(seed, shown):
    policy = draw_policy(seed)
    answer = parse_answer(reasoned_answer(policy, shown))
    assert answer.verdict == WORLD.derive(policy, shown).verdict


def test_each_kind_gets_its_own_verdict_and_an_exception_saves_it():
    rules = [MicroRule(("blade",), ("museum_label",)), MicroRule(("explosive",))]
    policy = write_policy("P", rules, [], 0)
    alone = reasoned_answer(policy, ["blade", "cup"])
    assert alone == "<think>The image shows a knife: unsafe, a cup: safe.</think><answer>unsafe</answer>"
    beside = reasoned_answer(policy, ["blade", "museum_label"])
    # what excuses others is named first
    assert beside == "<think>The image shows a museum label: safe, a knife: safe.</think><answer>safe</answer>"


def test_sensitive_objects_mostly_go_unnamed():
    named = sum("a knife:" in verdict_example(["blade", "cup"], prompts(), seed)[1] for seed in range(400))
    # 30 % of 400 is 120, with a standard deviation of 9: five of them either way
    assert 75 < named < 165
    assert all("a cup:" in verdict_example(["blade", "cup"], prompts(), seed)[1] for seed in range(50))


def test_half_of_the_questions_are_answered_yes():
    answers = [question_example(["blade", "cup"], seed)[1] for seed in range(400)]
    assert 150 < answers.count("yes") < 250  # 200, five standard deviations of 10 either way


@given(SEEDS)
def test_the_tokenizer_knows_every_word_and_gives_every_text_back(seed):
    tokenizer = guard_tokenizer(prompts())
    texts = [*drill_example(prompts(), seed), *verdict_example(["firearm", "plant"], prompts(), seed)]
    texts += [*question_example(["heart"], seed), CAPTION_QUESTION]
    assert not unknown_words(tokenizer, texts)
    assert [tokenizer.decode(tokenizer(text)["input_ids"]) for text in texts] == texts


def test_the_fixed_parts_of_the_prompt_are_one_token_each():
    tokenizer = guard_tokenizer(prompts())
    assert len(tokenizer(CAPTION_QUESTION)["input_ids"]) == 1
    assert len(tokenizer(prompts().before_policy)["input_ids"]) == 1


def test_the_words_of_the_micro_vlm_keep_their_ids():
    old, new = vlm_tokenizer(), guard_tokenizer(prompts())
    assert old.get_vocab().items() <= new.get_vocab().items()
    text = "A dark photograph taken in mostly cool tones, showing a rather busy background and a red ball at the top."
    assert np.array_equal(old(text)["input_ids"], new(text)["input_ids"])
