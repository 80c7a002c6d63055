"""Column types as the `datasets` library writes them in Parquet metadata, and the Arrow schema that they mean.

Lists are list literals (`[{"_type": "Image"}]`), the one spelling that every release of `datasets` since 3.6 reads.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import pyarrow as pa

View = Literal["sft", "sft_own_caption", "preference", "rl", "boundary", "benchmark"]
VIEWS: tuple[View, ...] = get_args(View)
Feature = Mapping[str, Any] | Sequence[Any]
Features = Mapping[str, Feature]

TEXT: Feature = {"dtype": "string", "_type": "Value"}
INTEGER: Feature = {"dtype": "int64", "_type": "Value"}
NUMBER: Feature = {"dtype": "float64", "_type": "Value"}
IMAGE: Feature = {"_type": "Image"}
TEXTS: Feature = [TEXT]
MESSAGES: Feature = [{"role": TEXT, "content": TEXT}]

PICTURES = "images"  # the folder of an export that holds pictures as files
_PICTURE = re.compile(rf"{PICTURES}/\w+\.png")

_ARROW: Mapping[str, pa.DataType] = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64()}


def class_label(names: Sequence[str]) -> Feature:
    """An int64 column whose values index `names`."""
    return {"names": list(names), "_type": "ClassLabel"}


def arrow_type(feature: Any) -> pa.DataType:
    """The Arrow type that stores a feature."""
    if not isinstance(feature, Mapping):
        return pa.list_(arrow_type(feature[0]))
    kind = feature.get("_type")
    if kind == "Value":
        return _ARROW[feature["dtype"]]
    if kind == "ClassLabel":
        return pa.int64()
    if kind == "Image":
        return pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.struct([(name, arrow_type(inner)) for name, inner in feature.items()])


def arrow_schema(features: Features) -> pa.Schema:
    """The schema with the metadata from which `datasets` decodes images and labels."""
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([(name, arrow_type(feature)) for name, feature in features.items()], metadata=metadata)


def image_leaves(features: Features) -> Iterator[str]:
    """The Parquet paths of image bytes, e.g. `images.list.element.bytes`."""
    for name, feature in features.items():
        if isinstance(feature, Mapping) and feature.get("_type") == "Image":
            yield f"{name}.bytes"
        elif not isinstance(feature, Mapping) and feature[0] == IMAGE:
            yield f"{name}.list.element.bytes"


def picture_path(cell: Any) -> str | None:
    """The path, from an export's folder, of a cell that shows a file of it; None of any other."""
    path = cell.get("path") if isinstance(cell, Mapping) and not cell.get("bytes") else None
    return path if isinstance(path, str) and _PICTURE.fullmatch(path) else None
