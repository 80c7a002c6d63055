"""Zero-shot detection with a real class of transformers, tiny and untrained, from a folder built here."""

from pathlib import Path
from typing import Any

import pytest
import transformers
from PIL import Image

from editing.detect import DetectorLocator
from editing.locate import LocateRequest
from micro.world import VOCABULARY
from models.detector import ZeroShotDetector
from storage.errors import FatalError
from storage.images import Rgb
from tests.drawing import draw
from tests.models.tiny_parts import clip_tokenizer

SIDE = 32  # pixels that the network sees: 4 x 4 patches of 8, so it answers 16 boxes an image and word


@pytest.fixture(scope="module")
def owl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, tokenizer = tmp_path_factory.mktemp("owl"), clip_tokenizer()
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = sizes | {"vocab_size": len(tokenizer), "max_position_embeddings": 77}
    text |= {"bos_token_id": len(tokenizer) - 2, "eos_token_id": len(tokenizer) - 1, "pad_token_id": 0}
    vision = sizes | {"image_size": SIDE, "patch_size": 8}
    config = transformers.OwlViTConfig(text_config=text, vision_config=vision, projection_dim=16)
    transformers.set_seed(0)
    transformers.OwlViTForObjectDetection(config).eval().save_pretrained(folder)
    processor = transformers.OwlViTImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, crop_size=None, do_center_crop=False
    )
    transformers.OwlViTProcessor(processor, tokenizer).save_pretrained(folder)
    return folder


def detector(owl: Path, **more: Any) -> ZeroShotDetector:
    return ZeroShotDetector(str(owl), **({"threshold": 0.0, "batch_size": 2} | more))


def pictures() -> list[Rgb]:
    return [draw(1, (96, 64)), draw(2, (50, 80)), draw(3, (33, 31))]


def test_each_image_gets_its_boxes_in_its_own_pixels_the_best_first(owl: Path) -> None:
    images = [Image.fromarray(picture) for picture in pictures()]
    found = detector(owl).detect(images, ["a knife", "a cup"])
    assert len(found) == 3
    for image, detections in zip(images, found, strict=True):
        assert detections
        assert {d.label for d in detections} <= {"a knife", "a cup"}
        scores = [d.score for d in detections]
        assert scores == sorted(scores, reverse=True)
        # An untrained network's boxes lie somewhere around the picture; in pixels of the network's own square none
        # would reach beyond 32.
        assert max(d.box[2] for d in detections) > SIDE or image.width < SIDE + 2
    (alone,) = detector(owl).detect(images[1:2], ["a knife", "a cup"])
    assert [d.label for d in alone] == [d.label for d in found[1]]
    assert [d.score for d in alone] == pytest.approx([d.score for d in found[1]], abs=1e-4)


def test_the_threshold_drops_boxes(owl: Path) -> None:
    images = [Image.fromarray(picture) for picture in pictures()]
    scores = [d.score for detections in detector(owl).detect(images, ["a knife"]) for d in detections]
    middle = sorted(scores)[len(scores) // 2]
    kept = [d for detections in detector(owl, threshold=middle).detect(images, ["a knife"]) for d in detections]
    assert 0 < len(kept) < len(scores)
    assert all(d.score >= middle for d in kept)


def test_as_a_locator_it_is_asked_for_the_whole_vocabulary(owl: Path) -> None:
    locator = DetectorLocator(detector(owl), VOCABULARY, max_iou=0.5)
    requests = [LocateRequest(Image.fromarray(picture)) for picture in pictures()]
    for request, regions in zip(requests, locator.locate(requests), strict=True):
        assert not isinstance(regions, Exception)
        assert regions
        for region in regions:
            x0, y0, x1, y1 = region.box
            assert 0 <= x0 < x1 <= request.rgb.shape[1]
            assert 0 <= y0 < y1 <= request.rgb.shape[0]


def test_what_is_no_detector_stops_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FatalError, match="cannot be loaded"):
        ZeroShotDetector(str(tmp_path), threshold=0.1).detect([Image.new("RGB", (8, 8))], ["a cup"])
