"""Colour profiles: pixels that count in other primaries than sRGB's are shown as a viewer that knows them does."""

import io
from functools import lru_cache

import numpy as np
from PIL import Image as PilImage
from PIL import ImageCms

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # a profile's colour space -> the pixels that it can be about
_STEPS = 9  # of the cube of colours that tells whether a profile is sRGB
_SAME = 3  # of 255: sRGB by another name, rounded in another way


def to_srgb(image: PilImage.Image) -> tuple[PilImage.Image, str | None]:
    """The picture in sRGB, and the name of the profile that it had; None where that changes nothing.

    A profile that is broken, or about other pixels than these, is passed over as browsers do.
    """
    profile = image.info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:
        return image, None
    transform, name = _transform(profile, image.mode)
    if transform is None:
        return image, None
    return ImageCms.applyTransform(image, transform) or image, name


@lru_cache(maxsize=16)  # cameras and editors embed the same few
def _transform(profile: bytes, mode: str) -> tuple[ImageCms.ImageCmsTransform | None, str]:
    """From a profile to sRGB, for pixels of a mode; None where it does nothing."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if _MODES.get(source.profile.xcolor_space.strip()) != mode:
            return None, ""
        name = (ImageCms.getProfileDescription(source) or "").strip() or "unnamed"
        transform = ImageCms.buildTransform(
            source, ImageCms.createProfile("sRGB"), mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC
        )
        return (None if _does_nothing(transform, mode) else transform), name
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None, ""


def _does_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Whether every colour stays what it is without the profile."""
    levels = np.linspace(0, 255, _STEPS).astype(np.uint8)
    channels = len(PilImage.new(mode, (1, 1)).getbands())
    cube = np.stack(np.meshgrid(*[levels] * channels), axis=-1).reshape(1, -1, channels)
    colours = PilImage.fromarray(cube[..., 0] if mode == "L" else cube, mode)
    shown = ImageCms.applyTransform(colours, transform) or colours
    difference = np.abs(np.asarray(shown, dtype=int) - np.asarray(colours.convert("RGB"), dtype=int))
    return bool(difference.max() <= _SAME)
