"""The command `guardset`, also `python -m guardset`: checks that its packages are its own, and runs the command line.

The packages have plain names such as `storage`. Another package of the environment may have one of them and stand
before ours on the path: then imports would fail in odd places, or find somebody else's code.
"""

import sys
from importlib.util import find_spec
from pathlib import Path

PACKAGES = (
    "annotation",
    "editing",
    "flows",
    "guard",
    "micro",
    "models",
    "policies",
    "recaption",
    "reporting",
    "storage",
)


def shadowed() -> list[str]:
    """A line for each package that is not the one beside this file: its name, and what is found in its place."""
    home, found = Path(__file__).resolve().parent, []
    for name in PACKAGES:
        spec = find_spec(name)
        places = [] if spec is None else list(spec.submodule_search_locations or [spec.origin or ""])
        if home / name not in [Path(place).resolve() for place in places]:
            found.append(f"{name}: {places[0] if places else 'not found'}")
    return found


def main() -> None:
    """Entry point of the console script."""
    others = shadowed()
    if others:
        sys.exit(
            "guardset cannot run here: another package of this environment has the name of one of its own.\n  "
            + "\n  ".join(others)
            + "\nInstall guardset into an environment without it."
        )
    from flows.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
