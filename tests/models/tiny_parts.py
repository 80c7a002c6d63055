"""Parts of pipelines, of their real classes and with tiny random weights."""

import json
from pathlib import Path
from typing import Any

import diffusers
import transformers
from tokenizers import pre_tokenizers

TEXT_WIDTH = 32
LATENTS = 4
SPECIALS = "<|endoftext|> <|im_start|> <|im_end|> <|vision_start|> <|vision_end|> <|image_pad|> <|video_pad|>".split()
_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}:{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}"
)


def _alphabet() -> list[str]:
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def clip_tokenizer() -> Any:
    words = [*_alphabet(), *(letter + "</w>" for letter in _alphabet()), "<|startoftext|>", "<|endoftext|>"]
    return transformers.CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[], model_max_length=77)


def tiny_clip_text(*, projected: bool = False) -> Any:
    vocabulary = len(clip_tokenizer())
    config = transformers.CLIPTextConfig(
        vocab_size=vocabulary, hidden_size=TEXT_WIDTH, intermediate_size=32, projection_dim=TEXT_WIDTH,
        num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=77,
        bos_token_id=vocabulary - 2, eos_token_id=vocabulary - 1, pad_token_id=vocabulary - 1,
    )  # fmt: skip
    return (transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel)(config)


def tiny_t5() -> tuple[Any, Any]:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -20.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in "abcdefghijklmnopqrstuvwxyz"]
    tokenizer = transformers.T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=512)
    config = transformers.T5Config(
        vocab_size=len(tokenizer), d_model=TEXT_WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=2
    )
    return tokenizer, transformers.T5EncoderModel(config)


def byte_tokenizer() -> Any:
    vocab = {word: index for index, word in enumerate([*_alphabet(), *SPECIALS])}
    tokenizer = transformers.Qwen2Tokenizer(vocab=vocab, merges=[], model_max_length=2048)
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIALS})
    tokenizer.chat_template = _CHAT_TEMPLATE
    return tokenizer


def tiny_vae(latents: int = LATENTS, levels: int = 4, **more: Any) -> Any:
    """Scales by 8, as the real ones do."""
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8,) * levels, norm_num_groups=4, layers_per_block=1, latent_channels=latents,
        sample_size=64, **more,
    )  # fmt: skip


def tiny_unet(channels: int, **more: Any) -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=channels, out_channels=LATENTS, block_out_channels=(8, 16), layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=8, norm_num_groups=4, **({"cross_attention_dim": TEXT_WIDTH} | more),
    )  # fmt: skip


def text_sizes(layers: int, vocabulary: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": layers,
        "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 2048,
    }  # fmt: skip


def tiny_qwen(tokenizer: Any) -> Any:
    token = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [1, 1, 2]}
    config = transformers.Qwen2_5_VLConfig(
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
                       "patch_size": 8, "window_size": 32, "fullatt_block_indexes": [0]},
        text_config=text_sizes(1, len(tokenizer)) | {"rope_parameters": rope},
        image_token_id=token("<|image_pad|>"), video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"), vision_end_token_id=token("<|vision_end|>"),
    )  # fmt: skip
    return transformers.Qwen2_5_VLForConditionalGeneration(config)


def tiny_qwen3_vl(tokenizer: Any, patch: int = 8) -> Any:
    token = tokenizer.convert_tokens_to_ids
    rope = {"rope_type": "default", "rope_theta": 1000.0, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    config = transformers.Qwen3VLConfig(
        vision_config={"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
                       "patch_size": patch, "num_position_embeddings": 64, "deepstack_visual_indexes": [0]},
        text_config=text_sizes(1, len(tokenizer)) | {"rope_parameters": rope},
        image_token_id=token("<|image_pad|>"), video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"), vision_end_token_id=token("<|vision_end|>"),
    )  # fmt: skip
    return transformers.Qwen3VLForConditionalGeneration(config)


def tiny_wan_vae(levels: int = 4) -> Any:
    """Scales by 2 at each level but the last."""
    return diffusers.AutoencoderKLWan(
        base_dim=8, z_dim=16, dim_mult=[1] * levels, num_res_blocks=1,
        temperal_downsample=[False, *[True] * (levels - 2)], latents_mean=[0.0] * 16, latents_std=[1.0] * 16,
    )  # fmt: skip


def save_with_processor(
    pipeline: Any, folder: Path, part: str, kind: str = "Qwen2VLProcessor", *, patch: int = 8, most: int = 64
) -> None:
    """A pipeline without its processor, which needs torchvision to exist at all; its files are written one by one."""
    pipeline.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder / part)
    transformers.Qwen2VLImageProcessorPil(patch_size=patch, min_pixels=16 * 16, max_pixels=most * most).save_pretrained(
        folder / part
    )
    index = json.loads((folder / "model_index.json").read_text())
    index[part] = ["transformers", kind]
    (folder / "model_index.json").write_text(json.dumps(index))
