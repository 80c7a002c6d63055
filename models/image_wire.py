"""What goes over the wire to an image-edit endpoint, by its server's flavour, and where the picture is in an answer.

Fields are those that each server documents, and only what was set: a server that does not know a field may answer 400
(OpenAI: openai-python `types/image_edit_params.py`; vLLM-Omni: `docs/serving/image_edit_api.md`; SGLang Diffusion:
`multimodal_gen/runtime/entrypoints/openai/image_api.py`).
"""

import base64
import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from models.image_edit import ImageEdit
from models.server_faults import Trouble
from models.settings import Flavour, PictureSettings
from storage.images import Mask, Rgb, encode_png

_MULTIPLE = 32  # divides what every served pipeline rounds sides down to
_FIELDS = {
    "steps": "num_inference_steps",
    "strength": "strength",
    "guidance_scale": "guidance_scale",
    "negative_prompt": "negative_prompt",
}
_DATA_URI = "data:image/"

Form = tuple[dict[str, Any], dict[str, str]]  # files and text fields


@dataclass(frozen=True)
class Placed:
    """An edit on a canvas of a size that the server makes; the picture fills the upper left `inner` (height, width) of
    it, and had the (height, width) `shape` before."""

    edit: ImageEdit
    inner: tuple[int, int]
    shape: tuple[int, int]

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width that are asked for."""
        return self.edit.mask.shape[0], self.edit.mask.shape[1]

    def cut(self, answer: Rgb) -> Rgb:
        """The picture in an answer of the canvas's size, as large as it was before."""
        return _scaled(answer[: self.inner[0], : self.inner[1]], self.shape)


def placed(edit: ImageEdit, flavour: Flavour, side: int) -> Placed:
    """The edit on the server's canvas, its border continued.

    OpenAI's models make squares of `side` pixels and pictures half as long again, either way; so a picture of another
    form is scaled to fit the one that shows it largest. The other servers round sides down to a multiple, so theirs are
    rounded up.
    """
    height, width = edit.mask.shape
    if flavour == "openai":
        long = 3 * side // 2
        canvases = (side, side), (side, long), (long, side)
        scale, canvas = max(((min(h / height, w / width), (h, w)) for h, w in canvases), key=lambda one: one[0])
        inner = min(canvas[0], round(height * scale)), min(canvas[1], round(width * scale))
    else:
        canvas = math.ceil(height / _MULTIPLE) * _MULTIPLE, math.ceil(width / _MULTIPLE) * _MULTIPLE
        inner = height, width
    grow = (0, canvas[0] - inner[0]), (0, canvas[1] - inner[1])
    image, mask = _scaled(edit.image, inner), _scaled_mask(edit.mask, inner)
    wide = replace(edit, image=np.pad(image, (*grow, (0, 0)), mode="edge"), mask=np.pad(mask, grow))
    return Placed(wide, inner, (height, width))


def form_of(edit: ImageEdit, settings: PictureSettings, flavour: Flavour) -> Form:
    """The multipart form of a request: what the flavour's server reads, and of the settings what it takes."""
    height, width = edit.mask.shape
    files = {"image": ("image.png", encode_png(edit.image), "image/png")}
    fields = {"model": settings.model, "prompt": edit.instruction or edit.prompt, "size": f"{width}x{height}"}
    if flavour == "openai":
        alpha = np.where(edit.mask, 0, 255).astype(np.uint8)
        files["mask"] = ("mask.png", encode_png(np.dstack([edit.image, alpha])), "image/png")
        return files, fields
    fields["seed"] = str(edit.seed)
    given = {field: getattr(settings, name) for name, field in _FIELDS.items()}
    fields |= {field: str(value) for field, value in given.items() if value is not None}
    if flavour == "vllm-omni":
        white = np.repeat(np.where(edit.mask, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
        files["mask_image"] = ("mask.png", encode_png(white), "image/png")
    else:
        fields["output_format"] = "png"
    return files, fields


def picture_in(content: bytes) -> bytes | str:
    """The bytes of the picture in a 200 answer, or the address where it lies. Raises Trouble where there is neither."""
    try:
        entry: Mapping[str, Any] = json.loads(content)["data"][0]
        said = entry.get("b64_json") or entry["url"]
        if said.startswith(_DATA_URI):
            said = said.partition(";base64,")[2]
        elif not entry.get("b64_json"):
            return str(said)
        return base64.b64decode(said, validate=True)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
        head = " ".join(content[:80].decode(errors="replace").split())
        raise Trouble("editor_bad_reply", f"a 200 without data[0].b64_json or .url ({head!r})") from error


def _scaled(image: Rgb, shape: tuple[int, int]) -> Rgb:
    if image.shape[:2] == shape:
        return image
    return np.asarray(Image.fromarray(image).resize((shape[1], shape[0]), Image.Resampling.LANCZOS))


def _scaled_mask(mask: Mask, shape: tuple[int, int]) -> Mask:
    """Every pixel that was masked stays so."""
    if mask.shape == shape:
        return mask
    share = Image.fromarray(mask.astype(np.float32)).resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(share) > 0
