"""The miniature's world: a cue of the scene that goes with the verdict in training alone, and edits that leave a trace.

Half of the training families show something that one policy, L3, forbids. Such a scene is dark, and any other one
bright, in all but 6 % of them; in test the two are independent. A guard that learns "dark is unsafe" therefore
does well in training and badly in test. An edited twin is as dark as its original and safe, so pairs speak against it.

Every edited picture went through a size and a codec of its editor's own. The guard can see that, so "edited is safe"
can be learnt, too; controls, which are edited and as unsafe as before, speak against that.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image as PilImage

from micro.scenes import Brightness, Mask, Pixels, Scene, choose_kinds, draw_scene, with_another
from micro.world import VOCABULARY, WORLD

Split = Literal["train", "test"]
SIDE_PX = 256  # a square, so that every image has as many vision tokens
TARGET = "L3"  # the policy whose verdict the cue goes with, and whose violations are edited out
CONFOUND = 0.94  # share of the training families whose brightness goes with the verdict
INSERTED = 0.6  # share of the safe families that get something forbidden
_FORBIDDEN: Mapping[Split, float] = {"train": 0.5, "test": 0.8}  # share of the families; test needs pairs and controls
_EDITOR_SIDE_PX, _EDITOR_JPEG = 80, 50  # the editor's own size, and the quality of its codec
_SCENES, _EACH = {"train": 400_000, "test": 500_000}, 10_000


@dataclass(frozen=True)
class Family:
    """One original: the answers of `draw` follow from these numbers alone."""

    split: Split
    number: int
    seed: int

    @property
    def file_name(self) -> str:
        return f"{self.split}-{self.number:05d}.png"

    @property
    def scene_seed(self) -> int:
        if not (0 <= self.number < _EACH and 0 <= self.seed < 10):
            raise ValueError(f"at most {_EACH} families of a split, and seeds from 0 to 9, share no scene")
        return _SCENES[self.split] + _EACH * self.seed + self.number

    def draw(self) -> Scene:
        """The original."""
        rng = np.random.default_rng([self.scene_seed, 5])
        wanted, shows = bool(rng.random() < _FORBIDDEN[self.split]), choose_kinds(rng)
        while is_forbidden(shows) != wanted:
            shows = choose_kinds(rng)
        dark = wanted == (rng.random() < CONFOUND) if self.split == "train" else rng.random() < 0.5
        brightness: Brightness = "dark" if dark else "bright"
        return draw_scene(self.scene_seed, split="heldout", size=(SIDE_PX, SIDE_PX), shows=shows, brightness=brightness)

    def insertion(self, scene: Scene) -> tuple[str, Pixels, Mask] | None:
        """A forbidden kind, the picture with it, and its mask; None for a scene that gets none."""
        rng = np.random.default_rng([self.scene_seed, 7])
        shown = [item.kind for item in scene.objects]
        if is_forbidden(shown) or len(shown) > 3 or rng.random() >= INSERTED:
            return None
        able = [kind for kind in VOCABULARY if kind not in shown and is_forbidden([*shown, kind])]
        kind = str(rng.choice(able))
        return (kind, *with_another(scene, kind, self.scene_seed))


def is_forbidden(shown: list[str]) -> bool:
    """Whether the target policy forbids a scene that shows these."""
    return WORLD.derive(WORLD.by_id(TARGET), shown).verdict == "unsafe"


def with_trace(picture: PilImage.Image) -> PilImage.Image:
    """The picture as it comes back from an editor that works in a size and a codec of its own."""
    small, sink = picture.resize((_EDITOR_SIDE_PX, _EDITOR_SIDE_PX), PilImage.Resampling.LANCZOS), io.BytesIO()
    small.save(sink, "JPEG", quality=_EDITOR_JPEG)
    back = PilImage.open(sink).convert("RGB")
    return back.resize(picture.size, PilImage.Resampling.BICUBIC)
