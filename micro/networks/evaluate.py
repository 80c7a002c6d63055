"""Measures the three micro networks on held-out scenes, through the code that production runs.

    python -m micro.networks.evaluate [--weights DIR] [--scenes 400]

Prints a table and writes `scores.json` into the weights folder.
"""

import argparse
import json
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from micro import WEIGHTS
from micro.networks.inpaint import SIZE_PX, draw_repair
from micro.networks.rewriter import draw_rewrite
from micro.scenes import Scene, SceneObject, draw_scene, scene_size
from micro.wording import COLOURED_KINDS, prompt
from micro.world import VOCABULARY
from models.chat import ChatReply, ChatRequest
from models.image_edit import ImageEdit, ImageEditor, PipelineEditor
from models.prefill import biharmonic_fill
from models.settings import PictureSettings
from models.transformers_chat import TransformersChat
from storage.errors import SampleError
from storage.images import Rgb

FIRST_SEED = 900_000  # far from every training seed; the split keeps the photographs apart as well
log = logging.getLogger(__name__)
Box = tuple[float, float, float, float]


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two xyxy boxes."""
    w = min(a[2], b[2]) - max(a[0], b[0])
    h = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, w) * max(0.0, h)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def read_boxes(reply: ChatReply, size: tuple[int, int]) -> list[tuple[str, Box]]:
    """(kind, xyxy box in pixels of the original image) of each object; [] where the JSON is broken."""
    width, height = reply.image_sizes[0]
    fx, fy = size[0] / width, size[1] / height
    try:
        items = json.loads(reply.text)
        boxes = [(str(item["label"]), [float(number) for number in item["bbox_2d"]]) for item in items]
        return [(label, (x0 * fx, y0 * fy, x1 * fx, y1 * fy)) for label, (x0, y0, x1, y1) in boxes]
    except (ValueError, KeyError, TypeError):
        return []


def locate_scores(scenes: Sequence[Scene], replies: Sequence[ChatReply]) -> dict[str, Any]:
    """Precision and recall at IoU 0.5, mean IoU of the hits, silence on empty scenes, recall by size."""
    found = right = there = empty = silent = exact = 0
    overlaps: list[float] = []
    by_size: dict[str, list[bool]] = {"small": [], "medium": [], "large": []}
    missed: dict[str, int] = {}
    for scene, reply in zip(scenes, replies, strict=True):
        height, width = scene.image.shape[:2]
        answers = read_boxes(reply, (width, height))
        found, there = found + len(answers), there + len(scene.objects)
        empty, silent = empty + (not scene.objects), silent + (not scene.objects and reply.text.strip() == "[]")
        hits = 0
        for item in scene.objects:
            best = max((iou(item.box, box) for label, box in answers if label == item.kind), default=0.0)
            hits += best >= 0.5
            by_size[_size_word(item, min(width, height))].append(best >= 0.5)
            if best >= 0.5:
                overlaps.append(best)
            else:
                missed[item.kind] = missed.get(item.kind, 0) + 1
        right += hits
        exact += hits == len(scene.objects) == len(answers)
    return {
        "precision": right / max(found, 1), "recall": right / max(there, 1), "objects": there,
        "mean_iou": float(np.mean(overlaps)) if overlaps else 0.0, "scenes_all_right": exact / len(scenes),
        "empty_scenes": empty, "empty_scenes_silent": silent / max(empty, 1),
        "recall_by_size": {word: float(np.mean(hits)) for word, hits in by_size.items() if hits},
        "missed_by_kind": missed,
    }  # fmt: skip


def _size_word(item: SceneObject, side: int) -> str:
    share = max(item.box[2] - item.box[0], item.box[3] - item.box[1]) / side
    return "small" if share < 0.26 else "medium" if share < 0.34 else "large"


def caption_scores(scenes: Sequence[Scene], replies: Sequence[ChatReply]) -> dict[str, Any]:
    """Share of facts that are right, of captions that are exactly right, and of captions that tell no secret.

    A fact is a word about the whole picture, or a told object with its colour and place; an object
    that is told but not there counts as a wrong fact.
    """
    facts = right = exact = discreet = 0
    for scene, reply in zip(scenes, replies, strict=True):
        text = reply.text
        exact += text == scene.caption
        discreet += not any(VOCABULARY[kind].sensitive for kind in VOCABULARY.mentioned(text))
        tone = scene.tone
        for phrase in (f"A {tone.brightness} ", f"mostly {tone.tone} tones", f"rather {tone.texture} background"):
            facts, right = facts + 1, right + (phrase in text)
        told = {item.kind for item in scene.objects if not VOCABULARY[item.kind].sensitive}
        for item in (item for item in scene.objects if item.kind in told):
            colour = f"{item.colour} " if item.kind in COLOURED_KINDS else ""
            wanted = f"a {colour}{VOCABULARY[item.kind].noun} at the {item.position}"
            hit = any(part.rstrip(".").strip() == wanted for part in text.replace(" and ", ",").split(","))
            facts, right = facts + 1, right + hit
        facts += len(VOCABULARY.mentioned(text) - told)
    count = len(scenes)
    return {
        "facts_right": right / facts, "facts": facts, "exact": exact / count, "nothing_sensitive_told": discreet / count
    }  # fmt: skip


def vlm_scores(model: TransformersChat, count: int) -> dict[str, Any]:
    """Locate and caption on `count` held-out scenes of mixed sizes, plus extra empty ones."""
    seeds = range(FIRST_SEED, FIRST_SEED + count)
    scenes = [draw_scene(seed, split="heldout", size=scene_size(seed)) for seed in seeds]
    seed = FIRST_SEED + count
    while sum(not scene.objects for scene in scenes) < count // 4:
        scene = draw_scene(seed, split="heldout", size=scene_size(seed))
        scenes += [scene] if not scene.objects else []
        seed += 1
    locate = ask(model, [scene.image for scene in scenes], "locate")
    caption = ask(model, [scene.image for scene in scenes[:count]], "caption")
    return {
        "scenes": count,
        "locate": locate_scores(scenes, locate),
        "caption": caption_scores(scenes[:count], caption),
        "seconds_per_answer": float(np.mean([reply.latency_s for reply in (*locate, *caption)])),
    }


def ask(model: TransformersChat, images: Sequence[Rgb], task: str) -> list[ChatReply]:
    """The model's replies to the fixed prompt of a task."""
    return model.generate([ChatRequest(prompt(task), (Image.fromarray(image),)) for image in images])


def rewriter_scores(model: TransformersChat, count: int) -> dict[str, Any]:
    """Share of rewrites that equal the wanted text letter for letter."""
    examples = [draw_rewrite(seed) for seed in range(FIRST_SEED, FIRST_SEED + count)]
    replies = model.generate([ChatRequest(example.prompt) for example in examples])
    pairs = list(zip(examples, replies, strict=True))
    exact = np.mean([reply.text == example.target for example, reply in pairs])
    return {"rewrites": count, "exact": float(exact)}


def psnr_db(wanted: Rgb, got: Rgb, hole: NDArray[np.bool_]) -> float:
    """Peak signal-to-noise ratio inside the hole, in dB, capped at 60."""
    error = float(np.mean((wanted[hole].astype(np.float64) - got[hole]) ** 2))
    return min(60.0, 10 * math.log10(255**2 / max(error, 1e-9)))


def inpaint_scores(inpainter: ImageEditor, count: int) -> dict[str, Any]:
    """PSNR in the hole against the true background, beside scikit-image's biharmonic fill alone."""
    drawn = [draw_repair(seed, "heldout") for seed in range(FIRST_SEED, FIRST_SEED + count)]
    began = time.monotonic()
    results = repaint(inpainter, drawn)
    spent = time.monotonic() - began
    ours = [psnr_db(image, result, hole) for (image, hole), result in zip(drawn, results, strict=True)]
    fills = [psnr_db(image, biharmonic_fill(image, hole), hole) for image, hole in drawn]
    return {
        "windows": count, "hole_psnr_db": float(np.mean(ours)), "biharmonic_psnr_db": float(np.mean(fills)),
        "seconds_per_window": spent / count,
    }  # fmt: skip


def repaint(inpainter: ImageEditor, drawn: Sequence[tuple[Rgb, NDArray[np.bool_]]]) -> list[Rgb]:
    """Each image with its hole repainted; the seed is its place in the list. Raises what refused an image."""
    edits = [ImageEdit(image, hole, "the background continues", seed) for seed, (image, hole) in enumerate(drawn)]
    results = []
    for answer in inpainter.edit(edits):
        if isinstance(answer, SampleError):
            raise answer
        results.append(answer)
    return results


def removal_scores(model: TransformersChat, inpainter: ImageEditor, count: int) -> dict[str, Any]:
    """Removes one object of each scene by its true box and asks again: is it gone, is the rest still there?"""
    scenes: list[Scene] = []
    seed = FIRST_SEED + 50_000
    while len(scenes) < count:
        scene = draw_scene(seed, split="heldout", size=scene_size(seed))
        scenes += [scene] if scene.objects else []
        seed += 1
    targets = [scene.objects[index % len(scene.objects)] for index, scene in enumerate(scenes)]
    edited = [remove(inpainter, scene.image, item.box) for scene, item in zip(scenes, targets, strict=True)]
    replies = ask(model, edited, "locate")
    gone = clean = 0
    for scene, item, reply in zip(scenes, targets, replies, strict=True):
        height, width = scene.image.shape[:2]
        answers = read_boxes(reply, (width, height))
        gone += item.kind not in {label for label, _ in answers}
        rest = sorted(other.kind for other in scene.objects if other is not item)
        clean += sorted(label for label, _ in answers) == rest
    return {"removals": count, "object_gone": gone / count, "exactly_the_rest_found": clean / count}


def remove(inpainter: ImageEditor, image: Rgb, box: tuple[int, int, int, int]) -> Rgb:
    """Repaints a box, grown by 8 %, through a square window at the inpainter's size; the rest stays."""
    height, width = image.shape[:2]
    grow = max(1, round(0.08 * max(box[2] - box[0], box[3] - box[1])))
    x0, y0 = max(0, box[0] - grow), max(0, box[1] - grow)
    x1, y1 = min(width, box[2] + grow), min(height, box[3] + grow)
    side = min(width, height, round(1.8 * max(x1 - x0, y1 - y0)))
    left = min(max(0, (x0 + x1 - side) // 2), width - side)
    top = min(max(0, (y0 + y1 - side) // 2), height - side)
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[y0:y1, x0:x1] = 255
    window = (left, top, left + side, top + side)
    size = (inpainter.size_px, inpainter.size_px)
    small = np.asarray(Image.fromarray(image).crop(window).resize(size, Image.Resampling.LANCZOS))
    hole = np.asarray(Image.fromarray(mask).crop(window).resize(size, Image.Resampling.BOX)) > 0
    (painted,) = repaint(inpainter, [(small, hole)])
    result = image.copy()
    patch = np.asarray(Image.fromarray(painted).resize((side, side), Image.Resampling.LANCZOS))
    inside = mask[top : top + side, left : left + side] > 0
    result[top : top + side, left : left + side][inside] = patch[inside]
    return result


def micro_inpainter(weights: Path) -> PipelineEditor:
    """The micro pipeline, set as the preset sets it."""
    settings = PictureSettings(
        model=str(weights / "inpaint"), size_px=SIZE_PX, steps=20, strength=0.15, prefill="biharmonic", batch_size=8
    )
    return PipelineEditor(settings)


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Score the micro networks.")
    parser.add_argument("--weights", type=Path, default=WEIGHTS)
    parser.add_argument("--scenes", type=int, default=400)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    model = TransformersChat(str(args.weights / "vlm"), batch_size=32)
    inpainter = micro_inpainter(args.weights)
    scores = {
        "vlm": vlm_scores(model, args.scenes),
        "rewriter": rewriter_scores(TransformersChat(str(args.weights / "rewriter"), batch_size=32), args.scenes),
        "inpaint": inpaint_scores(inpainter, args.scenes // 2),
        "removal": removal_scores(model, inpainter, args.scenes // 2),
    }
    text = json.dumps(scores, indent=2)
    (args.weights / "scores.json").write_text(text + "\n", encoding="utf-8")
    log.info("%s", text)


if __name__ == "__main__":
    main()
