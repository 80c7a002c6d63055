"""Good files of each kind, small enough to be read thousands of times: what the mutations start from."""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as PilImage
from PIL import ImageCms

from storage.images import encode_mask, encode_png
from tests.drawing import draw

_TESTS = Path(__file__).parents[1]
SIZE = (48, 40)
PNG = encode_png(draw(1, SIZE))
Files = list[tuple[str, bytes]]  # each with the suffix under which it is read
_MD5, _PDQ = "ab" * 16, "cd" * 32
_BOX = {"file": "a.png", "label": "gun", "box": [1, 2, 30, 20]}
_ROWS = [_BOX, {"file": "a.png", "label": "die", "mask": "mask.png"}, {"file": "b.png"}]
_RUNS = {"size": [40, 48], "counts": [0, 960, 960]}
_TEXT_RUNS = {"size": [3, 4], "counts": "4210J3"}
_BRUSH = [0, 0, 30, 0, 33, 75, 255, 0, 4, 1, 0, 1, 2, 3, 4, 5]


@cache
def corpus(kind: str) -> Files:
    return list(_FILES[kind]())


def _saved(picture: PilImage.Image, form: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, form, **options)
    return sink.getvalue()


def _pictures() -> Iterator[tuple[str, bytes]]:
    rgb = PilImage.fromarray(draw(1, SIZE))
    moving = {"save_all": True, "append_images": [PilImage.fromarray(draw(2, SIZE))]}
    exif = PilImage.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    told = {"exif": exif, "icc_profile": profile}
    yield ".jpg", _saved(rgb, "JPEG", **told)
    yield ".jpg", _saved(rgb, "JPEG", progressive=True, restart_marker_blocks=2)
    yield ".jpg", _saved(rgb.convert("CMYK"), "JPEG")
    yield ".jpg", _saved(rgb.convert("L"), "JPEG", quality=30)
    yield ".jpg", _saved(rgb, "MPO", **moving)
    yield ".png", _saved(rgb, "PNG", **told)
    yield ".png", _saved(rgb.convert("P"), "PNG", transparency=3)
    yield ".png", _saved(rgb.convert("I;16"), "PNG")
    yield ".png", _saved(rgb.convert("LA"), "PNG", **moving)
    yield ".webp", _saved(rgb, "WEBP", **told)
    yield ".webp", _saved(rgb.convert("RGBA"), "WEBP", lossless=True, **moving)
    yield ".avif", _saved(rgb, "AVIF", **told)
    yield ".gif", _saved(rgb.convert("P"), "GIF", transparency=1, **moving)
    yield ".bmp", _saved(rgb, "BMP")
    yield ".bmp", _saved(rgb.convert("1"), "BMP")
    for packing in ("raw", "tiff_lzw", "tiff_adobe_deflate", "jpeg", "group4", "packbits"):
        yield ".tif", _saved(rgb.convert("1") if packing == "group4" else rgb, "TIFF", compression=packing)
    for path in sorted((_TESTS / "storage" / "pictures").iterdir()):
        yield path.suffix, path.read_bytes()


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def _manifests() -> Iterator[tuple[str, bytes]]:
    """Lists of paths, rows of regions, and lists of hashes."""
    yield ".jsonl", _lines([{"path": "a.png", "category": "x", "boxes": [[1, 2, 3, 4]]}, {"path": "mask.png"}])
    yield ".jsonl", _lines(_ROWS)
    yield ".parquet", _parquet_bytes(_ROWS)
    yield ".txt", f"# known\nmd5:{_MD5}\nphash: {'ef' * 8}\nHASH_PDQ {_PDQ}\n".encode()
    yield ".csv", f"signal_type,signal_str,category,tags\npdq,{_PDQ},POSITIVE_CLASS,\nmd5,{_MD5},,a\n".encode()
    yield ".json", json.dumps([{"id": "1", "type": "HASH_MD5", "raw_indicator": _MD5, "status": "MALICIOUS"}]).encode()
    records = [{"signalType": "ImagePDQ", "hashValue": _PDQ, "hashStatus": "Active"}]
    yield ".json", json.dumps({"hashRecords": records, "hasMoreRecords": False}).encode()
    image = f"<image><id>1</id><fingerprints><md5>{_MD5}</md5><pdna>AA</pdna></fingerprints></image>"
    yield ".xml", f'<?xml version="1.0"?><queryResult xmlns="a"><images>{image}</images></queryResult>'.encode()


def _coco() -> Iterator[tuple[str, bytes]]:
    for path in sorted((_TESTS / "editing" / "coco").iterdir()):
        yield ".json", path.read_bytes()
    shapes = ({"segmentation": _RUNS}, {"segmentation": _TEXT_RUNS}, {"segmentation": [[1, 1, 9, 1, 9, 9, 1, 9]]})
    sized = [{"id": 1, "file_name": "a.png", "width": 48, "height": 40}]
    marks = [{"image_id": 1, "category_id": 7, "bbox": [1, 2, 30, 20], **shape} for shape in shapes]
    raw = {"images": sized, "categories": [{"id": 7, "name": "gun"}], "annotations": marks}
    yield ".json", json.dumps(raw).encode()


def _label_studio() -> Iterator[tuple[str, bytes]]:
    for path in sorted((_TESTS / "editing" / "exports").iterdir()):
        yield ".json", path.read_bytes()
    at = {"x": 10, "y": 20, "rotation": 30}
    values = [
        ("rectangle", at | {"width": 50, "height": 40}),
        ("polygon", {"points": [[1, 1], [50, 1], [50, 60]], "closed": True}),
        ("ellipse", at | {"radiusX": 5, "radiusY": 7}),
        ("brush", {"format": "rle", "rle": _BRUSH}),
    ]
    size = {"original_width": 48, "original_height": 40, "image_rotation": 90}
    shapes = [
        {"id": name, "type": f"{name}labels", "value": value | {f"{name}labels": ["gun"]}, **size}
        for name, value in values
    ]
    shapes[3]["image_rotation"] = 0
    tasks = [{"id": n, "data": {"image": "/data/upload/1/a.png"}, "annotations": [{"result": [s]}]} for n, s in
             enumerate(shapes)]  # fmt: skip
    yield ".json", json.dumps(tasks).encode()
    for task in tasks:
        yield ".json", json.dumps([task]).encode()


def _parquet_bytes(rows: list[dict[str, Any]] | pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows), sink, **options)
    return sink.getvalue()


def _parquet() -> Iterator[tuple[str, bytes]]:
    picture = {"bytes": PNG, "path": "a.png"}
    boxes = [{"box": [1, 2, 3, 4], "label": "gun"}]
    told = [{"image": picture, "category": n, "boxes": boxes, "labels": ["x", None]} for n in range(4)]
    pictures = pa.Table.from_pylist(told)
    about = {"info": {"features": {"category": {"names": ["a", "b"], "_type": "ClassLabel"}}}}
    yield ".parquet", _parquet_bytes(pictures.replace_schema_metadata({"huggingface": json.dumps(about)}))
    for packing in ("none", "gzip", "zstd", "brotli", "lz4"):
        yield ".parquet", _parquet_bytes(pictures, compression=packing, row_group_size=2, write_page_checksum=True)
    yield ".parquet", _parquet_bytes(pictures, data_page_version="2.0", write_page_index=True, use_dictionary=False)
    kinds = (pa.large_binary(), pa.binary(len(PNG)), pa.list_(pa.uint8()))
    for kind in kinds:
        value = list(PNG) if pa.types.is_list(kind) else PNG
        yield ".parquet", _parquet_bytes(pa.table({"image": pa.array([value, None], kind)}))
    yield ".parquet", _parquet_bytes([{"image": "a.png"}, {"image": "../a.png"}])
    cells = [{"image": picture, "safety_label": n % 2, "policy_name": "P", "policy": "No guns."} for n in range(3)]
    yield ".parquet", _parquet_bytes(cells)
    yield ".parquet", _parquet_bytes([{"image": picture, "rating": "Unsafe", "category": "O2: Violence"}])
    turns = [{"from": "human", "value": "<image> No guns."}, {"from": "gpt", "value": '{"rating": "Safe"}'}]
    yield ".parquet", _parquet_bytes([{"image": picture, "conversations": turns}])
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, pictures.schema) as stream:
        stream.write_table(pictures)
    yield ".arrow", sink.getvalue()


_FILES: Mapping[str, Callable[[], Iterator[tuple[str, bytes]]]] = {
    "pictures": _pictures,
    "manifests": _manifests,
    "coco": _coco,
    "label_studio": _label_studio,
    "parquet": _parquet,
}
KINDS = tuple(_FILES)
MASK = encode_mask(draw(3, SIZE)[..., 0] > 100)
