"""Boxes that came with the images, read through ingest and locate as a build does."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image as PilImage

from editing.locate import LocateRequest, LocateStage
from editing.source_boxes import BoxesLocator
from flows.planning import pictures
from micro.world import VOCABULARY
from storage.errors import FatalError, SampleError
from storage.images import encode_png
from storage.ingest import IngestSettings
from storage.records.images import Image
from storage.records.tables import to_table
from storage.sources import ColumnSettings, open_source
from storage.stages import INGEST, Ingesting
from tests.drawing import draw

IMAGE = PilImage.fromarray(draw(1, (100, 50)))


def locate(about, **label_map):
    (answer,) = BoxesLocator(label_map, VOCABULARY).locate([LocateRequest(IMAGE, meta_json=json.dumps(about))])
    return answer


def test_boxes_of_a_table_go_through_ingest_and_the_stage(workspace, tmp_path):
    rows = {
        "picture": [encode_png(draw(seed)) for seed in range(3)],
        "regions": [[[1.0, 2.0, 30.0, 40.0], [5.0, 5.0, 9.0, 9.0]], [], None],
        "names": [["Pistole", "cup"], [], None],
    }
    pq.write_table(pa.table(rows), tmp_path / "rows.parquet")
    settings = IngestSettings(columns=ColumnSettings(image="picture", boxes="regions", labels="names"))
    place = str(tmp_path / "rows.parquet")
    images = (
        INGEST.using(Ingesting(settings, place))
        .make(workspace)
        .run_shard(open_source(place, settings.columns).list())
        .ok
    )
    stage = LocateStage(workspace, BoxesLocator({"Pistole": "firearm"}, VOCABULARY), 2, VOCABULARY)
    result = stage.run_shard(next(pictures([to_table(images, Image)], ("image_id", "blob", "meta_json"))))
    assert [row.attributes for row in result.ok] == [("cup", "firearm"), ()]
    assert [f.box for f in result.ok[0].findings] == [(1, 2, 30, 40), (5, 5, 9, 9)]
    assert [(r.key, r.code) for r in result.rejected] == [(images[2].image_id, "source_no_boxes")]


@pytest.mark.parametrize(
    "about",
    [
        {"boxes": [[10, 20, 120, 30]], "labels": ["gun"]},
        {"boxes": [[10, 20, 120, 30]], "category": "gun", "labels": "unsafe"},  # a verdict on the image names no box
        {"boxes": [{"box": [10, 20, 120, 30], "label": "gun"}], "category": "cup"},
    ],
)
def test_each_form_of_a_label_and_a_box_is_cut_at_the_frame(about):
    (region,) = locate(about)
    assert (region.attributes, region.box, region.mask) == (("firearm",), (10, 20, 100, 30), None)


@pytest.mark.parametrize(
    ("about", "code"),
    [
        ({}, "source_no_boxes"),
        ({"boxes": "1 2 3 4"}, "source_no_boxes"),
        ({"boxes": [[1, 2, 3]], "category": "cup"}, "source_bad_box"),
        ({"boxes": [[1, 2, 3, float("nan")]], "category": "cup"}, "source_bad_box"),
        ({"boxes": [[200, 2, 300, 4]], "category": "cup"}, "source_bad_box"),
        ({"boxes": [[1, 2, 3, 4]]}, "source_no_label"),
        ({"boxes": [[1, 2, 3, 4]], "labels": ["cup", "blade"]}, "source_no_label"),
        ({"boxes": [[1, 2, 3, 4]], "category": "Pistole"}, "source_unknown_label"),
    ],
)
def test_what_cannot_be_used_refuses_its_image(about, code):
    answer = locate(about)
    assert isinstance(answer, SampleError)
    assert answer.code == code


def test_a_map_to_what_is_no_attribute_stops_before_any_image():
    with pytest.raises(FatalError, match="pistol"):
        BoxesLocator({"Pistole": "pistol"}, VOCABULARY)


def test_the_fingerprint_follows_the_map():
    cup, again, blade = (BoxesLocator({"a": name}, VOCABULARY).fingerprint for name in ("cup", "cup", "blade"))
    assert cup == again
    assert cup != blade
