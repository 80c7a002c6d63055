"""`guardset build`."""

import math
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.annotate import publish_build
from flows.build import build as run_build
from flows.cli.console import ConfigArg, WorkspaceArg, console
from flows.cli.lines import duration, tell
from flows.cli.steps import progress, run_flow, same_place, sent_sentence, settings_from, show_servers, show_stages
from flows.cli.tables import TextTable
from flows.estimate import Estimate, estimate
from flows.outcome import other_source
from flows.settings import Settings
from models.metering import CostLimitError
from storage.errors import FatalError, GuardsetError
from storage.reasons import REASONS
from storage.workspace import Workspace


def build(
    *,
    input: Annotated[
        str,
        Parameter(name=["--input", "-i"], help="Folder, s3://bucket/prefix, .parquet, `datasets` folder or .jsonl."),
    ],
    workspace: WorkspaceArg,
    config: ConfigArg = None,
    publish: Annotated[bool, Parameter(help="Put the images before annotators at the end.")] = True,
    dry_run: Annotated[bool, Parameter(help="Only estimate tokens, money and time, from 16 of the images.")] = False,
    max_cost: Annotated[
        float | None, Parameter(help="Stop before the build costs more, earlier runs included.")
    ] = None,
    retry_refused: Annotated[
        tuple[str, ...], Parameter(help="Reason code of refused rows to run again; may be given several times.")
    ] = (),
) -> None:
    """Build certified pairs and recaptions from a folder, and publish the images to Label Studio.

    Stopped or killed, the same command resumes where it left off. Run twice, the second run only looks things up, and
    tries again what a server, a disk or a device had kept from being done.

    Example: `guardset build --input photos --workspace work --config guardset.yaml`
    """
    unknown = [code for code in retry_refused if code not in REASONS]
    if unknown:
        raise FatalError(f"There is no reason code {unknown[0]}. `guardset status` shows those of this workspace.")
    settings = settings_from(workspace, config)
    before = other_source(Workspace.open(workspace), input)
    if before is not None and not dry_run:
        console.print(
            f"The last build of {workspace} read {before}. Its images stay there, but publish, status and export go by "
            "the newest build.",
            highlight=False,
            soft_wrap=True,
        )
    with _says_how_to_go_on():
        if dry_run:
            with progress():
                expected = estimate(settings, input, workspace, max_cost)
            _show_estimate(expected)
            return
        summary = run_flow(
            "build",
            lambda around: run_build(settings, input, workspace, max_cost, retry=retry_refused, around=around),
            input=input,
            workspace=workspace,
            config=config,
        )
    tell("built", build=summary.build_id, workspace=workspace)
    show_stages(summary.stages)
    console.print(f"Build {summary.build_id} is recorded in {workspace}/builds/.", highlight=False)
    if publish:
        _publish(settings, config, workspace)


def _publish(settings: Settings, config: Path | None, workspace: str) -> None:
    publication = run_flow("publish", lambda _: publish_build(settings, workspace), workspace=workspace)
    places = [project.project_id for project in publication.projects]
    console.print(sent_sentence(publication.published, publication.already_there, "images", places), highlight=False)
    show_servers(workspace, settings.annotation)
    console.print(f"When people have labelled: guardset collect {same_place(workspace, config)}", highlight=False)


@contextmanager
def _says_how_to_go_on() -> Iterator[None]:
    """A note on every failure: the command that continues. `main` prints the error, then its notes.

    With the same limit on costs it would stop at the same place, so there the limit is higher.
    """
    try:
        yield
    except (GuardsetError, KeyboardInterrupt) as error:
        words, how = sys.argv[1:], "Once that is mended" if isinstance(error, FatalError) else "To go on"
        if isinstance(error, CostLimitError):
            words = _with_limit(words, error.at_least)
            how = "To go on, choose a larger LIMIT" if error.at_least is None else "To go on"
            if "--dry-run" not in words:
                error.add_note("What a whole build would cost is estimated by --dry-run.")
        error.add_note(f"{how}: guardset {shlex.join(words)}")
        raise


def _with_limit(words: Sequence[str], at_least: float | None) -> list[str]:
    """A command line whose `--max-cost N` or `--max-cost=N` is doubled, and is more than `at_least`; where that is not
    known, the number is left open."""

    def higher(old: str) -> str:
        if at_least is None:
            return "LIMIT"
        enough = max(2 * float(old), 1.1 * at_least)  # stages that have not begun cost more
        unit = 10 ** (math.floor(math.log10(enough)) - 1) if enough else 1  # two digits, rounded up
        return f"{math.ceil(round(enough / unit, 6)) * unit:g}"

    line = "\0".join(words)
    return re.sub(r"(--max-cost[\0=])([^\0]+)", lambda found: found[1] + higher(found[2]), line).split("\0")


def _show_estimate(estimate: Estimate) -> None:
    rows = []
    for stage in estimate.stages:
        counts = (stage.rows, stage.requests, stage.prompt_tokens, stage.completion_tokens)
        rows.append((stage.name, *(f"{n:,.0f}" for n in counts), f"{stage.cost:.4g}", duration(stage.seconds)))
    headings = ("stage", "rows", "requests", "tokens in", "tokens out", "cost", "time")
    console.print(TextTable("What the whole input would ask", headings, rows))
    total = estimate.total
    cost = f"cost {total('cost'):.4g}" if total("cost") else "no cost (the config has no prices for these models)"
    console.print(
        f"About {total('prompt_tokens'):,.0f} tokens in, {total('completion_tokens'):,.0f} out, {cost}, and "
        f"{duration(total('seconds'))} once the models are loaded, for {estimate.files:,} files. "
        f"Scaled up from {estimate.sampled} of them, which cost {estimate.paid:.4g}. Nothing was published.",
        highlight=False,
        soft_wrap=True,
    )
