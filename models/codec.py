"""A picture through a pipeline's autoencoder and nothing else."""

from typing import Any

import numpy as np

from storage.images import Rgb


def through_codec(pipeline: Any, picture: Rgb) -> Rgb:
    """`picture`, uint8 (height, width, 3) with sides that the autoencoder divides, encoded and decoded.

    What a pipeline does to latents in between (scale, shift, patches) it undoes before decoding, so it is left
    out. Image and video autoencoders both work: for the latter a picture is a clip of one frame. One with a fourth
    channel is given an opaque picture.
    """
    import torch

    vae = pipeline.vae
    weight = next(p for p in vae.parameters() if p.ndim >= 4)  # a convolution: 4-d over pictures, 5-d over clips
    is_clip = weight.ndim == 5 or "temperal_downsample" in vae.config  # QwenImage 2.1's convolves each frame
    with torch.inference_mode():
        # Weights that wait in main memory are moved by the call; their inputs are not.
        device = getattr(pipeline, "_execution_device", weight.device)
        pixels = torch.from_numpy(picture.copy()).to(device).permute(2, 0, 1)[None].to(weight.dtype) / 127.5 - 1
        if getattr(vae.config, "in_channels", 3) == 4:
            pixels = torch.cat([pixels, torch.ones_like(pixels[:, :1])], dim=1)
        encoded = vae.encode(pixels.unsqueeze(2) if is_clip else pixels)
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        decoded = vae.decode(latents).sample
        if is_clip:
            decoded = decoded[:, :, 0]
        levels = ((decoded[0, :3].permute(1, 2, 0).float() + 1) * 127.5).round().clamp(0, 255)
    return np.asarray(levels.to(torch.uint8).cpu().numpy())
