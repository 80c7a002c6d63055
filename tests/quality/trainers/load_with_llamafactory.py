"""LLaMA-Factory's loader with trainers/llamafactory_sft.yaml: rows that it converts."""

import json
import tempfile
from pathlib import Path

import yaml
from llamafactory.data.loader import _load_single_dataset
from llamafactory.data.parser import get_dataset_list
from llamafactory.hparams import DataArguments, ModelArguments
from transformers import Seq2SeqTrainingArguments


def main() -> None:
    config = yaml.safe_load(Path("trainers/llamafactory_sft.yaml").read_text())
    wanted = {key: config[key] for key in ("dataset", "dataset_dir", "template")}
    data, model = DataArguments(**wanted), ModelArguments(model_name_or_path="none")
    found = 0
    with tempfile.TemporaryDirectory() as folder:
        training = Seq2SeqTrainingArguments(output_dir=folder, report_to=[])
        for attributes in get_dataset_list(data.dataset, data.dataset_dir):
            rows = _load_single_dataset(attributes, model, data, training)
            assert rows[0]["_prompt"][0]["content"].count("<image>") == len(rows[0]["_images"]) == 1
            assert rows[0]["_response"][0]["content"]
            found += len(rows)
    print(json.dumps({"sft/train": found}))  # noqa: T201


if __name__ == "__main__":
    main()
