"""The micro guard's tokenizer: the micro VLM's words under their old ids, then the words of policies and answers.

The fixed parts of the guard's prompt are one token each. They never vary, and a small network should not spend 130
positions on them; so an instruction that is worded differently is unknown to this network.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from micro.networks.guard_policies import SYNONYMS, corpus
from micro.networks.tokenizers_word import VLM_TEMPLATE, vlm_tokenizer
from micro.world import VOCABULARY

_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_WORDS = r"\n| ?[A-Za-z_]+|\d+|: |; |\s|[^\sA-Za-z\d]"
_JSON = (r'\{"label": "', r'", "bbox_2d": \[', r"\]\}", r", (?=[\d{])", r"\[", r"\]")
_ANSWERS = (
    "The image shows a knife: unsafe, a cup: safe.",
    "safe",
    " nothing that counts.",
    "Is there a cup?",
    "yes",
    "no",
)


@dataclass(frozen=True)
class GuardPrompts:
    """The texts around a policy, and the captioning instruction, as the guard's own prompt module words them."""

    before_policy: str
    after_policy: str
    caption: str

    def verdict(self, policy_text: str) -> str:
        return self.before_policy + policy_text + self.after_policy


def _escaped(text: str) -> str:
    return re.sub(r"([.^$*+?{}\[\]\\|()/])", r"\\\1", text).replace("\n", r"\n")


def guard_tokenizer(prompts: GuardPrompts) -> PreTrainedTokenizerFast:
    """Word-level; concatenating the tokens gives the text back exactly."""
    blocks = [prompts.before_policy, prompts.after_policy, prompts.caption]
    pattern = Regex("|".join([*map(_escaped, [*blocks, *_TAGS]), *_JSON, _WORDS]))
    splitter = pre_tokenizers.Split(pattern, "isolated")
    old = vlm_tokenizer()
    known = old.get_vocab()
    words = sorted(known, key=lambda word: known[word])
    texts = [*corpus(), *_ANSWERS]
    pieces = [piece for text in texts for piece, _ in splitter.pre_tokenize_str(text)]
    words += [word for word in dict.fromkeys([*blocks, *_TAGS, *pieces]) if word not in known]
    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer, inner.decoder = splitter, decoders.Fuse()
    specials = [word for word in words if word.startswith("<|")]
    inner.add_special_tokens(["<unk>", *specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", eos_token="<|im_end|>", pad_token="<|endoftext|>",
        padding_side="left", chat_template=VLM_TEMPLATE, clean_up_tokenization_spaces=False, model_max_length=1024,
        extra_special_tokens=specials,
    )  # fmt: skip


def twins(tokenizer: PreTrainedTokenizerFast) -> dict[str, str]:
    """New word -> old word of like meaning, whose embedding it starts from."""
    pairs = {f" {name.split()[0]}": f" {VOCABULARY[kind].noun.split()[0]}" for kind, name in SYNONYMS.items()}
    return {new: old for new, old in pairs.items() if new != old and new in tokenizer.get_vocab()}


def unknown_words(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> set[str]:
    """The pieces of `texts` that the tokenizer has no word for."""
    splitter = tokenizer.backend_tokenizer.pre_tokenizer
    pieces = {piece for text in texts for piece, _ in splitter.pre_tokenize_str(text)}
    return pieces - set(tokenizer.get_vocab())
