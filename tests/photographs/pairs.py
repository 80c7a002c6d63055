"""Pairs with one known thing wrong, or nothing, made of a photograph: what `guardset audit` is to find."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO

import cv2
import numpy as np
from PIL import Image

from storage.images import Rgb
from tests.photographs.edits import INSIDE, Region, as_jpeg, grained, inpainted, moved_piece

Make = Callable[[Region], Rgb | None]


@dataclass(frozen=True)
class Kind:
    """Edits of several strengths, and the verdict that each should get. `turned` is whether the labels say that the
    edit made an unsafe picture safe."""

    verdict: str
    strengths: Mapping[str, Make]
    turned: bool = True


def resized(rgb: Rgb, factor: float, *, back: bool) -> Rgb:
    """Scaled by Lanczos, and back to its size."""
    height, width = rgb.shape[:2]
    small = Image.fromarray(rgb).resize((round(width * factor), round(height * factor)), Image.Resampling.LANCZOS)
    return np.asarray(small.resize((width, height), Image.Resampling.LANCZOS) if back else small)


def _clipped(values: object) -> Rgb:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)  # type: ignore[call-overload, no-any-return]


def _webp(rgb: Rgb, quality: int) -> Rgb:
    sink = BytesIO()
    Image.fromarray(rgb).save(sink, "WEBP", quality=quality)
    return np.asarray(Image.open(sink).convert("RGB"))


def _cropped(rgb: Rgb, share: float, *, stretched: bool) -> Rgb:
    """Without `share` of each side, more on the left than on the right; at the old size if `stretched`."""
    height, width = rgb.shape[:2]
    left, top, right = round(1.5 * share * width), round(share * height), round(0.5 * share * width)
    part = Image.fromarray(rgb).crop((left, top, width - right, height - top))
    return np.asarray(part.resize((width, height), Image.Resampling.LANCZOS) if stretched else part)


def _grey(rgb: Rgb) -> Rgb:
    return np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def _redrawn(region: Region) -> Rgb:
    """The scene's large shapes with the detail of another photograph, as an editor leaves it that draws all anew."""
    height, width = region.mask.shape
    donor = np.asarray(Image.fromarray(region.donor).resize((width, height)))
    smooth, texture = (cv2.GaussianBlur(rgb.astype(np.float64), (0, 0), 6) for rgb in (region.original, donor))
    return _clipped(smooth + donor - texture)


def _other(region: Region) -> Rgb:
    height, width = region.mask.shape
    return np.asarray(Image.fromarray(region.donor).resize((width, height)))


def _noisy(level: float) -> Make:
    return lambda region: _clipped(region.original + region.draw.normal(0, level, region.original.shape))


def _opacity(share: float) -> Make:
    def ghost(region: Region) -> Rgb:
        result = region.good.copy()
        seen = share * region.original + (1 - share) * region.good
        result[region.thing] = _clipped(seen)[region.thing]
        return result

    return ghost


def _tinted(gains: tuple[float, float, float]) -> Make:
    return lambda region: _clipped(region.good * np.array(gains))


def _rolled(pixels: int, axis: int) -> Make:
    def shifted(region: Region) -> Rgb:
        """The border is repeated, as where a picture is padded and cropped."""
        moved = np.roll(region.good, pixels, axis)
        edge: list[slice] = [slice(None), slice(None)]
        edge[axis] = slice(0, pixels)
        moved[tuple(edge)] = np.take(region.good, [0], axis)
        return moved

    return shifted


KINDS: Mapping[str, Kind] = {
    "good": Kind("good", {
        "Telea with grain": grained,
        "Telea, smooth": inpainted,
        "a piece from elsewhere": moved_piece,
        "saved as JPEG 90": lambda r: as_jpeg(r.good, 90),
        "saved as JPEG 70": lambda r: as_jpeg(r.good, 70),
        "at three quarters of the size": lambda r: resized(r.good, 0.75, back=False),
        "scaled down and back": lambda r: resized(r.good, 0.6, back=True),
    }),
    "untouched": Kind("pair_untouched", {"the same pixels": lambda r: r.original.copy()}, turned=False),
    "re-encoded": Kind("pair_reencoded", {
        **{f"JPEG {q}": (lambda r, q=q: as_jpeg(r.original, q)) for q in (50, 60, 70, 80, 90, 95)},
        "WebP 60": lambda r: _webp(r.original, 60),
        **{f"noise of {level} levels": _noisy(level) for level in (1, 3, 8)},
        "scaled to half": lambda r: resized(r.original, 0.5, back=False),
    }, turned=False),
    "moved": Kind("pair_moved", {
        **{f"shifted by {px} px": _rolled(px, px % 2) for px in (1, 2, 4, 7, 20)},
        **{f"cropped by {share:.0%} and enlarged": (lambda r, s=share: _cropped(r.good, s, stretched=True))
           for share in (0.01, 0.04, 0.12)},
        "cropped by 8%": lambda r: _cropped(r.good, 0.08, stretched=False),
        "mirrored": lambda r: np.ascontiguousarray(r.good[:, ::-1]),
    }),
    "recoloured": Kind("pair_recoloured", {
        "warm by 4 %": _tinted((1.04, 1.0, 0.96)),
        "warm by 10 %": _tinted((1.10, 1.0, 0.92)),
        "cold by 7 %": _tinted((0.94, 1.0, 1.07)),
        "darker by 15 %": _tinted((0.85, 0.85, 0.85)),
        "another curve": lambda r: _clipped(255 * (r.good / 255) ** 0.75),
        "grey": lambda r: _grey(r.good),
    }),
    "regenerated": Kind("pair_regenerated", {"all detail drawn anew": _redrawn, "another photograph": _other}),
    "target left": Kind("pair_target_left", {
        "at 25 % opacity": _opacity(0.25),
        "at 50 % opacity": _opacity(0.5),
        "half of it": INSIDE["half of the thing"][0],
        "blurred": INSIDE["blurred"][0],
        "its outline": INSIDE["its outline"][0],
    }),
    "relabelled": Kind("pair_relabelled", {
        "the same pixels": lambda r: r.original.copy(),
        "JPEG 75": lambda r: as_jpeg(r.original, 75),
    }),
    "not flipped": Kind("pair_not_flipped", {
        "Telea with grain": grained, "saved as JPEG 85": lambda r: as_jpeg(r.good, 85),
    }, turned=False),
}  # fmt: skip


def planted(region: Region, names: Sequence[str]) -> Iterator[tuple[str, str, Kind, Rgb]]:
    """`(kind, strength, what is expected, the edited side)` of all of these kinds that can be made of a region."""
    for name in names:
        kind = KINDS[name]
        for strength, make in kind.strengths.items():
            edited = make(region)
            if edited is not None:
                yield name, strength, kind, edited
