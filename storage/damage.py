"""What to do about a damaged or missing file of a workspace, by what kind of file it is."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from storage.errors import FatalError


def way_out(root: str, key: str) -> str:
    """A sentence for people."""
    top, _, rest = key.partition("/")
    folder = f"{root}/annotation/{rest.split('/')[-1 if top == 'quarantine' else 0].removesuffix('.parquet')}"
    if key.startswith("annotation/") and key.endswith("/project.json"):
        return "Restore it from a copy, or delete it and run `guardset publish`: it asks Label Studio what is there."
    if key.startswith(("annotation/", "quarantine/collect/")):
        return (
            f"Restore it from a copy; or delete it and {folder}/collect.json and run `guardset collect`, which fetches "
            "all that people answered from Label Studio again."
        )
    if top == "exports":
        return "Delete its folder and run `guardset export` again."
    if top == "evaluations":
        return "Delete it and run `guardset evaluate` again."
    if key == "guardset.yaml":
        return "Give --config FILE: a build with it writes the file anew."
    return (
        f"`guardset check {shlex.quote(root)} --repair` removes what is damaged; then run the build again: it makes "
        "that anew."
    )


def damaged(root: str, key: str, found: object) -> FatalError:
    """The error of whoever needs a file that is damaged."""
    return FatalError(f"{root}/{key} is damaged ({found}). {way_out(root, key)}")


@contextmanager
def undamaged(root: str, key: str) -> Iterator[None]:
    """Turn what comes of reading a damaged or missing file into FatalError."""
    try:
        yield
    except FileNotFoundError as error:
        raise FatalError(f"{root}/{key} is missing. {way_out(root, key)}") from error
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(root, key, error) from error
