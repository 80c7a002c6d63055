"""verl's RLHFDataset with the settings of trainers/verl_grpo.sh, and its reward function: rows that it keeps."""

import json
import sys
import tempfile
from pathlib import Path

from omegaconf import OmegaConf
from transformers import AutoProcessor
from verl.utils.dataset.rl_dataset import RLHFDataset

from guard.training.adapters.verl_reward import compute_score


def main(model: str) -> None:
    processor = AutoProcessor.from_pretrained(model)
    with tempfile.TemporaryDirectory() as cache:
        config = {"prompt_key": "conversation", "image_key": "images", "max_prompt_length": 8192, "cache_dir": cache}
        files = [str(path) for path in sorted(Path("rl").glob("train-*.parquet"))]
        rows = RLHFDataset(files, processor.tokenizer, OmegaConf.create(config), processor)
        row = rows[0]
        truth = row["reward_model"]["ground_truth"]
        right = f"<think>A room with tiles, and nothing else in it.</think><answer>{truth}</answer>"
        assert compute_score(row["data_source"], right, truth, row["extra_info"]) == 1.0
        print(json.dumps({"rl/train": len(rows)}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
