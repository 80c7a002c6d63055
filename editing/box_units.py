"""How models of each family write their boxes: the unit of the numbers, and which axis goes first."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from storage.errors import FatalError

BoxUnits = Literal["resized_pixels", "thousandths", "thousandths_y_first", "fractions"]
"""Pixels of the picture as the model's processor scales it, 0 to 1000, or 0 to 1, as x0, y0, x1, y1; `y_first`: y0, x0,
y1, x1."""


@dataclass(frozen=True)
class Family:
    """Models that write boxes alike. `pattern` is searched for in a model's type or name, in lower case with every
    other sign than letters and digits as `_`; `side_multiple` is what the processor rounds sides to, where boxes are in
    those pixels."""

    pattern: str
    units: BoxUnits
    source: str
    side_multiple: int = 1


FAMILIES = (
    Family(r"qwen_?2_?5_?vl", "resized_pixels", "QwenLM/Qwen3-VL issues 676, 721", side_multiple=28),
    Family(r"qwen_?2_?vl", "thousandths", "QwenLM/Qwen3-VL issue 721"),
    # A number of parameters is none of a generation: Qwen-14B.
    Family(
        r"qwen_?(?:[3-9]|1\d)(?!\d*b)", "thousandths", "QwenLM/Qwen3-VL issue 1741; later ones are taken to go on so"
    ),
    Family(r"internvl", "thousandths", "OpenGVLab/InternVL issue 844"),
    Family(r"glm_?4_\d+v|glm4v", "thousandths", "zai-org's grounding guide for GLM-4.5V"),
    Family(r"minicpm_?[vo]", "thousandths", "OpenBMB/MiniCPM-V issue 982"),
    Family(r"kimi_?vl", "fractions", "MoonshotAI/Kimi-VL issues 52, 56, by users"),
    Family(r"gemma_?[34](?!n)|gemini", "thousandths_y_first", "google/gemma-3-4b-it discussion 38; Gemini's own guide"),
)
_NO_BOXES: Mapping[str, str] = {
    r"molmo": "Molmo answers with points",  # allenai/Molmo-7B-O discussion 1
    r"paligemma": "PaliGemma answers with location tokens, <loc0000> to <loc1023>, y first, and with no JSON",
}
"""Families whose answers hold no box that can be read."""
CHOICES = ", ".join(get_args(BoxUnits))


def units_of(model: str) -> BoxUnits:
    """How a model writes boxes, by the type in a folder's config.json, or else by its name.

    Raises FatalError where its family is not known, or is known to give no boxes.
    """
    name = _spelled(model)
    for pattern, why in _NO_BOXES.items():
        if re.search(pattern, name):
            raise FatalError(f"{model} cannot locate: {why}. Name another model: editing.locate.model.")
    units = {family.units for family in FAMILIES if re.search(family.pattern, name)}
    if len(units) != 1:
        raise FatalError(
            f"Nothing says how {model} writes its boxes. Set editing.locate.box_units, one of {CHOICES}. "
            "docs/editing.md lists families, and how to find out."
        )
    return units.pop()


def is_y_first(units: BoxUnits) -> bool:
    """Whether a box is y0, x0, y1, x1."""
    return units == "thousandths_y_first"


def side_multiple_of(model: str) -> int:
    """What a model's own processor rounds the sides of a picture to, where its boxes are in those pixels; else 1."""
    name = _spelled(model)
    return next((family.side_multiple for family in FAMILIES if re.search(family.pattern, name)), 1)


def _spelled(model: str) -> str:
    """The type in a local folder's config.json, or else the name without what it lies under, spelled as in patterns."""
    config, name = Path(model) / "config.json", model.rstrip("/").rsplit("/", 1)[-1]
    if config.is_file():
        try:
            name = str(json.loads(config.read_text(encoding="utf-8")).get("model_type"))
        except (OSError, ValueError, AttributeError):
            name = ""  # whoever loads it says what is wrong with it
    return re.sub(r"[^a-z0-9]+", "_", name.lower())
