"""Files in an export that make trainers and evaluators read it: configs in trainers/, task packs in tasks/.

Every path in them is relative to the export's folder, which is where their commands are to be run.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from guard.contract import prompt
from guard.contract.features import View
from guard.contract.splits import SPLITS
from guard.export.parquet import Shards
from guard.export.views import policy_label
from policies.engine import Policy

# file in the export: its template, and the view without whose rows it would read nothing
_FILES: Mapping[str, tuple[str, View]] = {
    "trainers/trl_sft.yaml": ("trainers/trl_sft.yaml.j2", "sft"),
    "trainers/trl_dpo.yaml": ("trainers/trl_dpo.yaml.j2", "preference"),
    "trainers/trl_grpo.yaml": ("trainers/trl_grpo.yaml.j2", "rl"),
    "trainers/verl_grpo.sh": ("trainers/verl_grpo.sh.j2", "rl"),
    "trainers/ms_swift_sft.yaml": ("trainers/ms_swift_sft.yaml.j2", "sft"),
    "trainers/ms_swift_grpo.yaml": ("trainers/ms_swift_grpo.yaml.j2", "rl"),
    "trainers/llamafactory_sft.yaml": ("trainers/llamafactory_sft.yaml.j2", "sft"),
    "trainers/easyr1_grpo.sh": ("trainers/easyr1_grpo.sh.j2", "rl"),
    "tasks/lmms_eval/{task}.yaml": ("tasks/lmms_eval.yaml.j2", "benchmark"),
    "tasks/lmms_eval/utils.py": ("tasks/harness_utils.py.j2", "benchmark"),
    "tasks/lm_eval/{task}.yaml": ("tasks/lm_eval.yaml.j2", "benchmark"),
    "tasks/lm_eval/utils.py": ("tasks/harness_utils.py.j2", "benchmark"),
    "tasks/inspect_ai/{task}.py": ("tasks/inspect_ai.py.j2", "benchmark"),
}


def trainer_files(name: str, shards: Shards, policies: Sequence[Policy], *, name_rules: bool = False) -> dict[str, str]:
    """Path in the export -> text. A view without training rows (or a benchmark without any) has no files. With
    `name_rules` the questions of `rl` ask for rules, so that its configs name the reward `rule_set`."""
    files = {
        view: {split: [f"{view}/{s.path.name}" for s in splits.get(split, ())] for split in SPLITS}
        for view, splits in shards.items()
    }
    task = re.sub(r"\W", "_", name.lower())
    environment = Environment(
        loader=PackageLoader("guard.export"), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    environment.filters.update(literal=partial(json.dumps, ensure_ascii=False), dataset_name=_dataset_name)
    values = {
        "files": files,
        "task": task if task[0].isalpha() else f"task_{task}",
        "policies": [policy_label(p.id) for p in policies],
        "question": prompt.question("{policy}"),
        "whole": prompt.WHOLE_ANSWER.pattern,
        "tag": prompt.ANSWER_TAG.pattern,
        "prompt_hash": prompt.prompt_hash(),
        "reward": "rule_set" if name_rules else "strict",
    }
    found = {}
    for path, (template, view) in _FILES.items():
        if files.get(view, {}).get("test" if view == "benchmark" else "train"):
            text = environment.get_template(template).render(**values, tagged="lm_eval" in path)
            found[path.format(task=values["task"])] = text
    found |= _llamafactory(files)
    return found


def _dataset_name(file: str) -> str:
    """A LLaMA-Factory name for a shard, e.g. `sft_train_00000`."""
    view, name = file.split("/")
    return "_".join([view, *name.split("-")[:2]])


def _llamafactory(files: Mapping[View, Mapping[Any, Sequence[str]]]) -> dict[str, str]:
    """LLaMA-Factory's own table of data sets: one per shard, since it reads a folder as one split."""
    entries = {
        _dataset_name(file): {
            "file_name": f"../../{file}",
            "formatting": "sharegpt",
            "columns": {"messages": "conversation", "images": "images"},
            "tags": {
                "role_tag": "role",
                "content_tag": "content",
                "user_tag": "user",
                "assistant_tag": "assistant",
            },
        }
        for view in ("sft", "sft_own_caption")
        for shards in files.get(view, {}).values()
        for file in shards
    }
    return {"trainers/llamafactory/dataset_info.json": json.dumps(entries, indent=2) + "\n"} if entries else {}
