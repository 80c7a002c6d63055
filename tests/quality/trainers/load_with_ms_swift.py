"""ms-swift's load_dataset with the files of trainers/ms_swift_*.yaml: rows that it keeps."""

import json
from pathlib import Path

import yaml
from swift.dataset import load_dataset


def main() -> None:
    found = {}
    for view, name in (("sft", "ms_swift_sft"), ("rl", "ms_swift_grpo")):
        files = yaml.safe_load(Path(f"trainers/{name}.yaml").read_text())["dataset"]
        rows, _ = load_dataset(files, split_dataset_ratio=0.0, remove_unused_columns=False)
        assert sum(m["content"].count("<image>") for m in rows[0]["messages"]) == len(rows[0]["images"]) == 1
        found[f"{view}/train"] = len(rows)
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
