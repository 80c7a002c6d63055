"""Files in an export that make trainers and evaluators read it: configs in trainers/, the rewards that they name, task
packs in tasks/.

Every path in them is relative to the export's folder, which is where their commands are to be run.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from guard.contract import prompt
from guard.contract.features import View
from guard.contract.recipe import LANGUAGE_LAYERS, GrpoSettings, Recipe, StageSettings, load_recipe
from guard.contract.splits import SPLITS
from guard.export.parquet import Shards
from guard.export.reward_file import REWARD_FILE, reward_file
from guard.export.views import policy_label
from policies.engine import Policy
from storage.errors import FatalError

_PROMPT_TOKENS = 4096  # an image of 1,280 tokens and a long policy fit
DEFAULT_RECIPE = "qwen2.5-vl-7b"

# file in the export: its template, and the view without whose rows it would read nothing
_CONFIGS: Mapping[str, tuple[str, View]] = {
    "trainers/trl_sft.yaml": ("trainers/trl_sft.yaml.j2", "sft"),
    "trainers/trl_dpo.yaml": ("trainers/trl_dpo.yaml.j2", "preference"),
    "trainers/trl_grpo.yaml": ("trainers/trl_grpo.yaml.j2", "rl"),
    "trainers/trl_grpo_pair.yaml": ("trainers/trl_grpo.yaml.j2", "rl"),
    "trainers/verl_grpo.sh": ("trainers/verl_grpo.sh.j2", "rl"),
    "trainers/ms_swift_sft.yaml": ("trainers/ms_swift_sft.yaml.j2", "sft"),
    "trainers/ms_swift_grpo.yaml": ("trainers/ms_swift_grpo.yaml.j2", "rl"),
    "trainers/llamafactory_sft.yaml": ("trainers/llamafactory_sft.yaml.j2", "sft"),
}
_TASKS: Mapping[str, str] = {
    "tasks/lmms_eval/{task}.yaml": "tasks/lmms_eval.yaml.j2",
    "tasks/lmms_eval/utils.py": "tasks/harness_utils.py.j2",
    "tasks/lm_eval/{task}.yaml": "tasks/lm_eval.yaml.j2",
    "tasks/lm_eval/utils.py": "tasks/harness_utils.py.j2",
    "tasks/inspect_ai/{task}.py": "tasks/inspect_ai.py.j2",
}

Parts = Mapping[str, Mapping[str, Sequence[tuple[str, int]]]]  # view -> split -> path in the export and rows of a shard


def trainer_files(name: str, shards: Shards, policies: Sequence[Policy], *, name_rules: bool = False) -> dict[str, str]:
    """Path in the export -> text: configs, the rewards that they name, and task packs. A view without training rows
    (or a benchmark without any) has no files. With `name_rules` the questions of `rl` ask for rules, so that its
    configs name the reward `rule_set`."""
    parts: Parts = {
        view: {split: [(f"{view}/{s.path.name}", s.rows) for s in found] for split, found in splits.items()}
        for view, splits in shards.items()
    }
    recipe = load_recipe(DEFAULT_RECIPE)
    grpo = recipe.grpo.model_copy(update={"reward": "rule_set" if name_rules else "strict"})
    found = configs(parts, recipe.model_copy(update={"grpo": grpo}))
    if any(path in found for path, (_, view) in _CONFIGS.items() if view == "rl"):
        found[REWARD_FILE] = reward_file()
    files = _files(parts)
    task = re.sub(r"\W", "_", name.lower())
    values = {
        "files": files,
        "task": task if task[0].isalpha() else f"task_{task}",
        "policies": [policy_label(p.id) for p in policies],
        "without_rules": [x for n, p in enumerate(policies) if not p.rules for x in (policy_label(p.id), n)],
        "question": prompt.question("{policy}"),
        "whole": prompt.WHOLE_ANSWER.pattern,
        "tag": prompt.ANSWER_TAG.pattern,
        "prompt_hash": prompt.prompt_hash(),
    }
    if files.get("benchmark", {}).get("test"):
        for path, template in _TASKS.items():
            text = _environment().get_template(template).render(**values, tagged="lm_eval" in path)
            found[path.format(task=values["task"])] = text
    return found | _llamafactory(files)


def configs(parts: Parts, recipe: Recipe) -> dict[str, str]:
    """A recipe as configs of other trainers: path -> text. Batches are cut where there are fewer rows than they hold.

    Raises FatalError for a recipe without LoRA: no setting of TRL's command keeps the vision part as it is; and for one
    that trains the vision part, which nobody has tried with them.
    """
    if recipe.method != "lora" or recipe.train_vision:
        raise FatalError(
            "Configs of other trainers are made of recipes with method: lora and train_vision: false. Run guardset "
            "train, or change the recipe."
        )
    files, found = _files(parts), {}
    for path, (template, view) in _CONFIGS.items():
        rows = sum(n for _, n in parts.get(view, {}).get("train", ()))
        if not rows:
            continue
        reward = "pair" if "pair" in path else recipe.grpo.reward
        if reward == "pair" and path.startswith("trainers/verl"):
            continue  # verl scores rows one by one
        stage = _fitted(recipe.grpo if view == "rl" else recipe.sft, rows, recipe.devices, pairs=reward == "pair")
        generations = stage.generations if isinstance(stage, GrpoSettings) else 1
        found[path] = _environment().get_template(template).render(
            path=path, files=files, recipe=recipe, stage=stage, reward=reward,
            prompts=max(1, stage.batch_size * stage.accumulate * recipe.devices // generations),
            language_layers=LANGUAGE_LAYERS, prompt_tokens=_PROMPT_TOKENS,
        )  # fmt: skip
    return found


def _fitted(stage: StageSettings, rows: int, devices: int, *, pairs: bool) -> StageSettings:
    """The stage with the largest step, up to its own, that takes no more rows than there are: trainers drop a step that
    is not full, and so all of a set that is smaller. With `pairs` a device's step holds an even number of prompts,
    since a reward sees the rows of one device."""
    generations = stage.generations if isinstance(stage, GrpoSettings) else 1
    sizes = [(b, a) for b in range(1, stage.batch_size + 1) for a in range(1, stage.accumulate + 1)]
    whole = [(b, a) for b, a in sizes if b * a * devices % generations == 0]
    if pairs and generations > 1:
        whole = [(b, a) for b, a in whole if b * a % (2 * generations) == 0] or whole
    fits = [(b, a) for b, a in whole if b * a * devices <= rows * generations]
    batch, accumulate = max(fits, key=lambda size: (size[0] * size[1], size)) if fits else min(whole)
    return stage.model_copy(update={"batch_size": batch, "accumulate": accumulate})


def _files(parts: Parts) -> dict[str, dict[str, list[str]]]:
    return {
        view: {split: [path for path, _ in splits.get(split, ())] for split in SPLITS} for view, splits in parts.items()
    }


def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("guard.export"), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    found.filters.update(literal=partial(json.dumps, ensure_ascii=False), dataset_name=_dataset_name, yaml=_yaml_number)
    return found


def _yaml_number(value: float) -> str:
    """1.0e-06: YAML reads 1e-06 as text."""
    return yaml.safe_dump(value).splitlines()[0]


def _dataset_name(file: str) -> str:
    """A LLaMA-Factory name for a shard, e.g. `sft_train_00000`."""
    view, name = file.split("/")
    return "_".join([view, *name.split("-")[:2]])


def _llamafactory(files: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, str]:
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
