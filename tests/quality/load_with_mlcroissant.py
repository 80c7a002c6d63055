"""MLCommons' own reader of croissant.json: no error, and as many records as were told."""

import json

import mlcroissant


def main() -> None:
    dataset = mlcroissant.Dataset(jsonld="croissant.json")
    found = {}
    for records in dataset.metadata.record_sets:
        view, split = records.uuid.rsplit("_", 1)
        found[f"{view}/{split}"] = sum(1 for _ in dataset.records(record_set=records.uuid))
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
