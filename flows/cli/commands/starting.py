"""`guardset init`, `guardset doctor` and `guardset settings`: a newcomer's first commands."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.cli.console import ConfigArg, WorkspaceArg, console
from flows.cli.doctor import examine
from flows.cli.presets import blanks_of, preset_text
from flows.cli.settings_text import settings_yaml
from flows.cli.tables import TextTable
from flows.settings import load_settings, settings_of
from storage.errors import FatalError
from storage.workspace import Workspace


def init(
    *,
    preset: Annotated[
        str, Parameter(name=["--preset", "-p"], help="classical, vllm, local or hosted, or a YAML file to copy.")
    ],
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="File to write; never one that exists.")] = Path(
        "guardset.yaml"
    ),
) -> None:
    """Write a commented config that works once its blanks are filled.

    classical: regions that you have, OpenCV as a baseline editor, no weights. vllm: two vLLM servers, a diffusers
    editor. local: all models in this process. hosted: everything behind APIs.

    Example: `guardset init --preset classical`
    """
    text = preset_text(preset)
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise FatalError(f"{output} exists already and is left as it is. Choose another --output.") from error
    console.print(f"Wrote {output}.", highlight=False, soft_wrap=True)
    blanks = blanks_of(text)
    if blanks:
        console.print("Fill in:", highlight=False)
    for line in blanks:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    command = shlex.join(["guardset", "doctor", "--config", str(output), "--try"])
    console.print(f"Then: {command}", highlight=False, markup=False, soft_wrap=True)


def doctor(
    *,
    workspace: WorkspaceArg = "workspace",
    config: ConfigArg = None,
    try_models: Annotated[
        bool,
        Parameter(name="--try", negative=(), help="Also run one tiny answer and one tiny edit through each model."),
    ] = False,
) -> None:
    """Try what a build needs, and say what is missing and what to do about it.

    Reads the policies, prompts, regions and the block list, loads each local model's config, asks each server for its
    models, and looks at the GPUs, the disk and Label Studio.

    Example: `guardset doctor --workspace work --config guardset.yaml --try`
    """
    settings = load_settings(config) if config else settings_of(Workspace.open(workspace))
    checks = examine(settings, workspace, try_models=try_models)
    rows = [("!" if check.advice else "ok", check.name, check.found, check.advice) for check in checks]
    console.print(TextTable("", ("", "check", "found", "what to do"), rows, 4))
    if any(check.advice for check in checks):
        sys.exit(1)


def settings() -> None:
    """Print every setting with its default and what it is for.

    Example: `guardset settings | less`
    """
    sys.stdout.write(settings_yaml())
