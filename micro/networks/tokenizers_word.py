"""Word-level tokenizers: one token per word, per number and per piece of the locate answer.

Concatenating the tokens gives the text back exactly, so nothing has to be re-spaced afterwards.
"""

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from micro.wording import (
    BRIGHTNESS,
    COLOURS,
    TEXTURES,
    TONES,
    Tone,
    compose,
    kinds,
    mention,
    prompt,
)
from policies.phrases import POSITIONS

MAX_NUMBER = 176
_PIECES = Regex(
    r'\{"label": "|", "bbox_2d": \[|\]\}|, (?=[\d{])|\[|\]| ?[A-Za-z_]+|\d+|: |; |\s|[^\sA-Za-z\d]'
)  # fmt: skip
_JSON = ("[", "]", '{"label": "', '", "bbox_2d": [', "]}", ", ")


def _pieces(texts: Iterable[str]) -> list[str]:
    splitter = pre_tokenizers.Split(_PIECES, "isolated")
    return [piece for text in texts for piece, _ in splitter.pre_tokenize_str(text)]


def caption_corpus() -> list[str]:
    """Texts that hold every word a caption, a finding or a prompt can hold."""
    tones = [Tone(b, t, x) for b in BRIGHTNESS for t in TONES for x in TEXTURES]
    mentions = [mention(entry.id, colour, place) for entry in kinds() for colour in COLOURS for place in POSITIONS]
    captions = [compose(tone, mentions[:3], mentions[3:5]) for tone in tones]
    return captions + [" " + text for text in mentions] + [entry.noun for entry in kinds()]


def _build(specials: list[str], pieces: Iterable[str], template: str, **roles: str) -> PreTrainedTokenizerFast:
    words = ["<unk>", *specials, *dict.fromkeys(pieces)]
    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(_PIECES, "isolated")
    inner.decoder = decoders.Fuse()
    inner.add_special_tokens(["<unk>", *specials])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="<unk>", padding_side="left", chat_template=template,
        clean_up_tokenization_spaces=False, model_max_length=2048, extra_special_tokens=specials, **roles,
    )  # fmt: skip


VLM_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<start_of_turn>{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def vlm_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the Qwen2.5-VL folder. Numbers 0 to 176 have one token each."""
    texts = [*caption_corpus(), prompt("caption"), prompt("locate"), "user", "assistant", "\n"]
    pieces = [*_JSON, *(str(number) for number in range(MAX_NUMBER + 1)), *(entry.id for entry in kinds())]
    specials = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
                "<|video_pad|>", "<|endoftext|>"]  # fmt: skip
    return _build(specials, [*pieces, *_pieces(texts)], VLM_TEMPLATE, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def gemma_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer of the Gemma 3 folder."""
    texts = [*caption_corpus(), prompt("rewrite"), "user", "model", "\n", ": A photograph; nothing", "nothing"]
    specials = ["<pad>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
    return _build(
        specials, _pieces(texts), GEMMA_TEMPLATE, bos_token="<bos>", eos_token="<end_of_turn>", pad_token="<pad>"
    )
