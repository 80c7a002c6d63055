"""Run by environments of several releases of `datasets`: load every config of an export, print what came as JSON."""

import json
import sys
import tempfile

import datasets


def main(root: str) -> None:
    found = {"version": datasets.__version__}
    with tempfile.TemporaryDirectory() as cache:
        for view in datasets.get_dataset_config_names(root):
            for split, rows in datasets.load_dataset(root, view, cache_dir=cache).items():
                first = rows[0]
                image = first["image"] if view == "benchmark" else first["images"][0]
                found[f"{view}/{split}"] = {
                    "rows": rows.num_rows,
                    "columns": rows.column_names,
                    "size": list(image.size),
                    "labels": getattr(rows.features.get("safety_label"), "names", None),
                    "told": datasets.load_dataset_builder(root, view, cache_dir=cache).info.splits[split].num_examples,
                }
            by_folder = datasets.load_dataset("parquet", data_dir=f"{root}/{view}", cache_dir=f"{cache}/{view}")
            for split, rows in by_folder.items():
                found[f"{view}/{split}"]["by_folder"] = rows.num_rows
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
