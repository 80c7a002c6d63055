"""The drawn world: scenes, the small networks that know them, their vocabulary and policies, and a demonstration."""

from pathlib import Path

FOLDER = Path(__file__).parent
POLICIES = FOLDER / "policies"
PRESET = FOLDER / "preset.yaml"
RECIPE = FOLDER / "recipe.yaml"
WEIGHTS = FOLDER / "weights"
GUARD = WEIGHTS / "guard"
