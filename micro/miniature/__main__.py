"""The miniature experiment as a command: python -m micro.miniature --workspace FOLDER."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from flows.cli.console import console
from flows.cli.main import run


def miniature(
    *,
    workspace: Annotated[Path, Parameter(name=["--workspace", "-w"], help="Local folder of the experiment.")],
    quick: Annotated[bool, Parameter(help="A few steps on a few families: shows that it runs.")] = False,
    seeds: Annotated[
        int | None, Parameter(validator=Number(gte=1), help="Seeds per arm; default 5. More may be added later.")
    ] = None,
    jobs: Annotated[int, Parameter(validator=Number(gte=1), help="Arms trained at a time, one core each.")] = 2,
    claims: Annotated[
        list[str] | None, Parameter(help="Only these claims, e.g. pairs; default: all. More may be added later.")
    ] = None,
) -> None:
    """Decide the paper's claims in miniature: ways to train one small guard against each other, on drawn scenes.

    Stopped or killed, the same command resumes where it left off.

    Examples:
      `python -m micro.miniature --workspace W`
      `python -m micro.miniature --workspace W --claims pairs --claims order`
    """
    from micro.miniature.experiment import QUICK, Miniature, run_miniature

    size = QUICK if quick else Miniature()
    if seeds is not None:
        size = replace(size, seeds=seeds)
    if claims:
        size = replace(size, claims=tuple(claims))
    table = run_miniature(workspace, size, jobs=jobs, tell=_tell)
    console.print(table.read_text(encoding="utf-8"), markup=False, highlight=False, soft_wrap=True)
    console.print(f"Open {table.with_suffix('.html')}", highlight=False, soft_wrap=True)


def _tell(line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    app = App(name="python -m micro.miniature", suppress_keyboard_interrupt=False)
    app.default(miniature)
    run(app)
