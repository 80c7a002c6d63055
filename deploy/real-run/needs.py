"""What must be there before a real run: python deploy/real-run/needs.py BUILD RECIPE

A line for each model that runs in this process, then one with what measures general ability (or none).
"""

import sys
from pathlib import Path

from flows.settings import load_settings
from guard.contract.recipe import load_recipe
from storage.errors import FatalError


def needs(build: Path, recipe: str) -> list[str]:
    """The models of a build's config, each once, and the recipe's `ability`."""
    settings = load_settings(build)
    steps = [settings.editing.locate, settings.editing.edit]
    if settings.recaption is not None:
        steps += [settings.recaption.caption, settings.recaption.rewrite]
    models = dict.fromkeys(step.model for step in steps if step.is_here and step.model)
    return [*models, load_recipe(recipe).ability]


if __name__ == "__main__":
    try:
        sys.stdout.write("\n".join(needs(Path(sys.argv[1]), sys.argv[2])) + "\n")
    except FatalError as error:
        sys.exit(str(error))
