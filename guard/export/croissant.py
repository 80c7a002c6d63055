"""`croissant.json`: the export described in Croissant 1.0 (JSON-LD), so that search engines and loaders read it.

Source: MLCommons, Croissant format specification 1.0, docs.mlcommons.org/croissant/docs/croissant-spec.html.
No publication date is written, since two exports of the same content must be equal.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from guard.contract.features import Features, View
from guard.export.parquet import Shard, Shards

CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_TYPES = {"string": "sc:Text", "int64": "sc:Integer", "float64": "sc:Float"}
_SEMVER = re.compile(r"\d+\.\d+\.\d+")


def croissant(
    name: str,
    version: str,
    description: str,
    shards: Shards,
    features: Mapping[View, Features],
    licences: Sequence[str],
    *,
    packed: bool = True,
) -> dict[str, Any]:
    """The JSON-LD document. Without `packed` pictures are told by their paths.

    A version that is not MAJOR.MINOR.PATCH goes into the build part of 1.0.0."""
    parts = [(view, split) for view, splits in shards.items() for split in splits]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": name,
        "description": description,
        "url": "./README.md",
        "license": list(licences) or ["unknown"],
        "version": version if _SEMVER.fullmatch(version) else f"1.0.0+{re.sub('[^0-9A-Za-z.-]', '-', version)}",
        "rai:personalSensitiveInformation": "Images may show people. File names of the source are not included.",
        "rai:dataUseCases": "Training and testing guardrail classifiers that follow a given policy.",
        "distribution": [file for view, split in parts for file in _files(view, split, shards[view][split])],
        "recordSet": [_record_set(view, split, features[view], packed) for view, split in parts],
    }


def _files(view: str, split: str, shards: Sequence[Shard]) -> list[dict[str, Any]]:
    """Each shard with its hash, and the set that a loader reads."""
    objects = [
        {
            "@type": "cr:FileObject",
            "@id": f"{view}/{shard.path.name}",
            "name": f"{view}-{shard.path.name}",
            "contentUrl": f"{view}/{shard.path.name}",
            "contentSize": f"{shard.size_bytes} B",
            "encodingFormat": "application/x-parquet",
            "sha256": shard.sha256,
        }
        for shard in shards
    ]
    together = {
        "@type": "cr:FileSet",
        "@id": f"{view}-{split}-files",
        "name": f"{view}-{split}-files",
        "encodingFormat": "application/x-parquet",
        "includes": f"{view}/{split}-*.parquet",
    }
    return [*objects, together]


def _record_set(view: str, split: str, features: Features, packed: bool) -> dict[str, Any]:
    name = f"{view}_{split}"
    picture = ("sc:ImageObject", "bytes") if packed else ("sc:Text", "path")
    columns = features.items()
    fields = [_field(f"{name}/{column}", f"{view}-{split}-files", column, f, picture) for column, f in columns]
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": f"The {split} rows of {view}.",
        "field": fields,
    }


def _field(
    identifier: str, files: str, column: str, feature: Any, picture: tuple[str, str], path: str = ""
) -> dict[str, Any]:
    """One column. A structured one has a subfield per key, taken from the column by its path; `picture` is the type and
    the key by which a picture is told."""
    source: dict[str, Any] = {"fileSet": {"@id": files}, "extract": {"column": column}}
    described: dict[str, Any] = {"@type": "cr:Field", "@id": identifier, "name": identifier}
    if not isinstance(feature, Mapping):
        return {**_field(identifier, files, column, feature[0], picture, path), "repeated": True}
    kind = feature.get("_type")
    if kind is None:
        inner = [_field(f"{identifier}/{key}", files, column, f, picture, key) for key, f in feature.items()]
        return {**described, "subField": inner}
    path = picture[1] if kind == "Image" else path
    if path:
        source["transform"] = {"jsonPath": path}
    if kind == "ClassLabel":
        described["description"] = "; ".join(f"{i} = {label}" for i, label in enumerate(feature["names"]))
    data_type = picture[0] if kind == "Image" else _TYPES.get(str(feature.get("dtype")), "sc:Integer")
    return {**described, "dataType": data_type, "source": source}
