"""Folders of real pipeline classes with tiny random weights, built without a network.

The components are as small as the classes allow, so that a whole edit takes a fraction of a second.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from tests.models.no_editors import NO_EDITORS
from tests.models.tiny_parts import (
    LATENTS,
    SPECIALS,
    TEXT_WIDTH,
    byte_tokenizer,
    clip_tokenizer,
    save_with_processor,
    text_sizes,
    tiny_clip_text,
    tiny_qwen,
    tiny_qwen3_vl,
    tiny_t5,
    tiny_unet,
    tiny_vae,
    tiny_wan_vae,
)


def _sd(pipeline: str, channels: int) -> Any:
    return getattr(diffusers, pipeline)(
        vae=tiny_vae(), text_encoder=tiny_clip_text(), tokenizer=clip_tokenizer(), unet=tiny_unet(channels),
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def _sdxl(pipeline: str, channels: int) -> Any:
    unet = tiny_unet(
        channels, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=TEXT_WIDTH + 6 * 8, cross_attention_dim=2 * TEXT_WIDTH,
    )  # fmt: skip
    return getattr(diffusers, pipeline)(
        vae=tiny_vae(), text_encoder=tiny_clip_text(), text_encoder_2=tiny_clip_text(projected=True),
        tokenizer=clip_tokenizer(), tokenizer_2=clip_tokenizer(), unet=unet,
        scheduler=diffusers.EulerDiscreteScheduler(), add_watermarker=False,
    )  # fmt: skip


def _flux(pipeline: str, channels: int) -> Any:
    tokenizer_2, text_encoder_2 = tiny_t5()
    transformer = diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=channels, out_channels=4 * LATENTS, num_layers=1, num_single_layers=1,
        attention_head_dim=16, num_attention_heads=2, joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
    )  # fmt: skip
    return getattr(diffusers, pipeline)(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), vae=tiny_vae(shift_factor=0.1),
        text_encoder=tiny_clip_text(), tokenizer=clip_tokenizer(), text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2, transformer=transformer,
    )  # fmt: skip


def _flux2_parts(text_width: int, *, guidance: bool) -> dict[str, Any]:
    transformer = diffusers.Flux2Transformer2DModel(
        patch_size=1, in_channels=4 * LATENTS, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=3 * text_width, axes_dims_rope=(4, 4, 4, 4),
        guidance_embeds=guidance,
    )  # fmt: skip
    vae = diffusers.AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8,) * 4, norm_num_groups=4, layers_per_block=1, latent_channels=LATENTS,
    )  # fmt: skip
    return {"scheduler": diffusers.FlowMatchEulerDiscreteScheduler(), "vae": vae, "transformer": transformer}


def _sd3() -> Any:
    tokenizer_3, text_encoder_3 = tiny_t5()
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=16, patch_size=2, in_channels=16, out_channels=16, num_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=TEXT_WIDTH, caption_projection_dim=32,
        pooled_projection_dim=2 * TEXT_WIDTH, pos_embed_max_size=96,
    )  # fmt: skip
    return diffusers.StableDiffusion3InpaintPipeline(
        transformer=transformer, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=tiny_vae(16, shift_factor=0.1), text_encoder=tiny_clip_text(projected=True), tokenizer=clip_tokenizer(),
        text_encoder_2=tiny_clip_text(projected=True), tokenizer_2=clip_tokenizer(), text_encoder_3=text_encoder_3,
        tokenizer_3=tokenizer_3,
    )  # fmt: skip


def _flux2_klein(pipeline: str = "Flux2KleinPipeline") -> Any:
    tokenizer = byte_tokenizer()
    # The pipeline reads hidden states 9, 18 and 27.
    encoder = transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**text_sizes(28, len(tokenizer))))
    return getattr(diffusers, pipeline)(
        **_flux2_parts(16, guidance=False), text_encoder=encoder, tokenizer=tokenizer, is_distilled=False
    )


def _flux2() -> Any:
    """A plain tokenizer with a chat template takes the PixtralProcessor's place, which needs torchvision to exist."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [*SPECIALS, "[IMG]"]})
    config = transformers.Mistral3Config(
        text_config=text_sizes(30, len(tokenizer)) | {"model_type": "mistral"},  # hidden states 10, 20 and 30
        vision_config={"model_type": "pixtral", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
                       "num_attention_heads": 2, "head_dim": 8, "image_size": 64, "patch_size": 8},
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
    )  # fmt: skip
    return diffusers.Flux2Pipeline(
        **_flux2_parts(16, guidance=True),
        text_encoder=transformers.Mistral3ForConditionalGeneration(config),
        tokenizer=tokenizer,
    )


def _z_image_parts(**more: Any) -> dict[str, Any]:
    tokenizer = byte_tokenizer()
    transformer = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,), all_f_patch_size=(1,), in_channels=16, dim=32, n_layers=1, n_refiner_layers=1, n_heads=2,
        n_kv_heads=2, cap_feat_dim=16, axes_dims=[8, 4, 4], axes_lens=[1024, 128, 128], **more,
    )  # fmt: skip
    with torch.no_grad():  # made by torch.empty: whatever was in memory, NaN included
        for name, parameter in transformer.named_parameters():
            if name.endswith("pad_token"):
                parameter.fill_(0.1)
    encoder = transformers.Qwen3Model(transformers.Qwen3Config(**text_sizes(2, len(tokenizer))))
    return {
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(), "text_encoder": encoder, "tokenizer": tokenizer,
        "vae": tiny_vae(16, scaling_factor=0.36, shift_factor=0.1), "transformer": transformer,
    }  # fmt: skip


def _z_image_omni() -> Any:
    siglip = transformers.Siglip2VisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_patches=16, patch_size=16
    )
    return diffusers.ZImageOmniPipeline(
        **_z_image_parts(siglip_feat_dim=16), siglip=transformers.Siglip2VisionModel(siglip),
        siglip_processor=transformers.Siglip2ImageProcessor(patch_size=16, max_num_patches=16),
    )  # fmt: skip


def _qwen(pipeline: str, **more: Any) -> Any:
    tokenizer = byte_tokenizer()
    transformer = diffusers.QwenImageTransformer2DModel(
        patch_size=2, in_channels=4 * LATENTS, out_channels=LATENTS, num_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=16, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    vae = diffusers.AutoencoderKLQwenImage(
        base_dim=8, z_dim=LATENTS, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[0.0] * LATENTS, latents_std=[1.0] * LATENTS,
    )  # fmt: skip
    return getattr(diffusers, pipeline)(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), vae=vae, text_encoder=tiny_qwen(tokenizer),
        tokenizer=tokenizer, transformer=transformer, **more,
    )  # fmt: skip


def _qwen_edit(pipeline: str) -> Callable[[Path], None]:
    return lambda folder: save_with_processor(_qwen(pipeline, processor=None), folder, "processor")


def _save_longcat(folder: Path) -> None:
    tokenizer = byte_tokenizer()
    transformer = diffusers.LongCatImageTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, pooled_projection_dim=16, axes_dims_rope=[4, 4, 8],
    )  # fmt: skip
    pipeline = diffusers.LongCatImageEditPipeline.__new__(diffusers.LongCatImageEditPipeline)
    diffusers.DiffusionPipeline.__init__(pipeline)
    pipeline.register_modules(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), vae=tiny_vae(16, shift_factor=0.1), tokenizer=tokenizer,
        text_encoder=tiny_qwen(tokenizer), text_processor=None, transformer=transformer,
    )  # fmt: skip
    save_with_processor(pipeline, folder, "text_processor")


def _save_kandinsky(folder: Path) -> None:
    tokenizer = byte_tokenizer()
    transformer = diffusers.Kandinsky5Transformer3DModel(
        in_visual_dim=16, in_text_dim=16, in_text_dim2=TEXT_WIDTH, time_dim=16, out_visual_dim=16, model_dim=32,
        ff_dim=32, num_text_blocks=1, num_visual_blocks=1, axes_dims=(4, 6, 6), visual_cond=True,
    )  # fmt: skip
    pipeline = diffusers.Kandinsky5I2IPipeline(
        transformer=transformer, vae=tiny_vae(16, scaling_factor=0.36, shift_factor=0.1),
        text_encoder=tiny_qwen(tokenizer), tokenizer=None, text_encoder_2=tiny_clip_text(),
        tokenizer_2=clip_tokenizer(), scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
    )  # fmt: skip
    save_with_processor(pipeline, folder, "tokenizer", "Qwen2_5_VLProcessor")


def _joy(kind: str) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        tokenizer = byte_tokenizer()
        transformer = getattr(diffusers, f"JoyImageEdit{kind}Transformer3DModel")(
            patch_size=[1, 2, 2], in_channels=16, hidden_size=32, num_attention_heads=2, text_dim=16,
            mlp_width_ratio=1.0, num_layers=1, rope_dim_list=[4, 6, 6],
        )  # fmt: skip
        pipeline = getattr(diffusers, f"JoyImageEdit{kind}Pipeline")(
            scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), vae=tiny_wan_vae(),
            text_encoder=tiny_qwen3_vl(tokenizer), tokenizer=tokenizer, transformer=transformer, processor=None,
        )  # fmt: skip
        save_with_processor(pipeline, folder, "processor", "Qwen3VLProcessor")

    return save


def _save_qwen_image_21(folder: Path) -> None:
    """Written part by part, since the constructor asks its processor, which needs torchvision to exist at all."""
    tokenizer = byte_tokenizer()
    transformer = diffusers.QwenImage21Transformer2DModel(
        patch_size=1, in_channels=8, out_channels=8, num_layers=1, attention_head_dim=16, num_attention_heads=2,
        context_in_dim=16, mlp_ratio=1, axes_dims_rope=(4, 4, 8),
    )  # fmt: skip
    vae = diffusers.AutoencoderKLQwenImage21(
        base_dim=8, decoder_base_dim=8, z_dim=8, dim_mult=[1, 1, 1, 1, 1], num_res_blocks=1,
        latents_mean=[0.0] * 8, latents_std=[1.0] * 8,
    )  # fmt: skip
    pipeline = diffusers.QwenImage21Pipeline.__new__(diffusers.QwenImage21Pipeline)
    diffusers.DiffusionPipeline.__init__(pipeline)
    pipeline.register_modules(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), vae=vae, processor=None, transformer=transformer,
        text_encoder=tiny_qwen3_vl(tokenizer, 16),
    )  # fmt: skip
    pipeline.register_to_config(sample_sigmas=None)
    save_with_processor(pipeline, folder, "processor", "Qwen3VLProcessor", patch=16, most=1024)


def _save_fibo_edit(folder: Path) -> None:
    tokenizer = byte_tokenizer()
    encoder = transformers.SmolLM3ForCausalLM(
        transformers.SmolLM3Config(**text_sizes(2, 128_002), pad_token_id=0, bos_token_id=0, eos_token_id=0)
    )
    transformer = diffusers.BriaFiboTransformer2DModel(
        patch_size=1, in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, axes_dims_rope=[4, 4, 8], text_encoder_dim=16,
    )  # fmt: skip
    diffusers.BriaFiboEditPipeline(
        transformer=transformer, scheduler=diffusers.FlowMatchEulerDiscreteScheduler(), vae=tiny_wan_vae(5),
        text_encoder=encoder, tokenizer=tokenizer,
    ).save_pretrained(folder)  # fmt: skip


def _saved(make: Callable[[], Any]) -> Callable[[Path], None]:
    return lambda folder: make().save_pretrained(folder)


BUILDERS: dict[str, Callable[[Path], None]] = {
    "sd-inpaint-9": _saved(lambda: _sd("StableDiffusionInpaintPipeline", 9)),
    "sd-inpaint-4": _saved(lambda: _sd("StableDiffusionInpaintPipeline", 4)),
    "sd-text-to-image": _saved(lambda: _sd("StableDiffusionPipeline", 4)),
    "sdxl-inpaint-9": _saved(lambda: _sdxl("StableDiffusionXLInpaintPipeline", 9)),
    "sdxl-inpaint-4": _saved(lambda: _sdxl("StableDiffusionXLInpaintPipeline", 4)),
    "flux-fill": _saved(lambda: _flux("FluxFillPipeline", 4 * LATENTS + 4 * LATENTS + 4 * 64)),
    "flux-kontext": _saved(lambda: _flux("FluxKontextPipeline", 4 * LATENTS)),
    "instruct-pix2pix": _saved(lambda: _sd("StableDiffusionInstructPix2PixPipeline", 8)),
    "qwen-edit": _qwen_edit("QwenImageEditPipeline"),
    "qwen-edit-plus": _qwen_edit("QwenImageEditPlusPipeline"),
    "flux2": _saved(_flux2),
    "flux2-klein": _saved(_flux2_klein),
    "z-image-omni": _saved(_z_image_omni),
    "z-image-inpaint": _saved(lambda: diffusers.ZImageInpaintPipeline(**_z_image_parts())),
    "sd3-inpaint": _saved(_sd3),
    "flux-inpaint": _saved(lambda: _flux("FluxInpaintPipeline", 4 * LATENTS)),
    "flux-kontext-inpaint": _saved(lambda: _flux("FluxKontextInpaintPipeline", 4 * LATENTS)),
    "flux2-klein-inpaint": _saved(lambda: _flux2_klein("Flux2KleinInpaintPipeline")),
    "qwen-image-inpaint": _saved(lambda: _qwen("QwenImageInpaintPipeline")),
    "longcat-edit": _save_longcat,
    "qwen-image-21": _save_qwen_image_21,
    "fibo-edit": _save_fibo_edit,
    "joy-edit": _joy(""),
    "joy-edit-plus": _joy("Plus"),
    "kandinsky5-i2i": _save_kandinsky,
    "qwen-edit-inpaint": _qwen_edit("QwenImageEditInpaintPipeline"),
}


def build(name: str, folder: Path) -> Path:
    """Writes the named pipeline to `folder`; the same weights every time."""
    torch.manual_seed(0)
    if name in NO_EDITORS:
        NO_EDITORS[name]().save_pretrained(folder)
    else:
        BUILDERS[name](folder)
    return folder
