"""What verl's main_ppo does before it starts GPUs, with the arguments of trainers/verl_grpo.sh: the config is composed
and checked, the rows are read, and its reward manager scores one of them. Prints the rows that it keeps."""

import copy
import json
import sys

from hydra import compose, initialize_config_module
from transformers import AutoProcessor
from verl.trainer.ppo.reward import get_custom_reward_fn
from verl.utils.config import validate_config
from verl.utils.dataset.rl_dataset import RLHFDataset

MODULE, *OVERRIDES = sys.argv[2:]  # of `python -m verl.trainer.main_ppo …`


def main() -> None:
    assert MODULE == "verl.trainer.main_ppo"
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", OVERRIDES)
    checked = copy.deepcopy(config)
    checked.actor_rollout_ref.rollout.name = "sglang"  # vllm, which needs a GPU, would be imported
    validate_config(checked, use_reference_policy=True, use_critic=False)
    processor = AutoProcessor.from_pretrained(config.actor_rollout_ref.model.path)
    rows = RLHFDataset(list(config.data.train_files), processor.tokenizer, config.data, processor)
    assert len(rows) >= config.data.train_batch_size, "verl drops a step that is not full"
    row = rows[0]
    truth = row["reward_model"]["ground_truth"]
    score = get_custom_reward_fn(config)
    for answer, earned in ((truth, 1.0), ("none", -1.0)):
        text = f"<think>A room with tiles, and nothing else in it.</think><answer>{answer}</answer>"
        found = score(
            data_source=row["data_source"], solution_str=text, ground_truth=truth, extra_info=row["extra_info"]
        )
        assert found == earned, (answer, found)
    print(json.dumps({"rows": len(rows)}))  # noqa: T201


if __name__ == "__main__":
    main()
