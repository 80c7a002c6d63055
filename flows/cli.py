"""The command `guardset`."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, Parameter
from rich.console import Console
from rich.table import Table

from storage.errors import FatalError, GuardsetError

if TYPE_CHECKING:
    from flows.progress import StageSummary
    from flows.settings import Settings

# Set before the libraries are imported. Their chatter would tear the progress bars, and none may phone home.
_QUIET = {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",  # the default of 20 s fails on a busy machine
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DIFFUSERS_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
    "OMP_NUM_THREADS": "1",
}

app = App(
    name="guardset",
    help="Build the data that train and test a policy-adaptive image guardrail.",
    help_epilogue=(
        "Examples:\n\n"
        "`guardset demo` runs the whole job on drawn images.\n\n"
        "`guardset build --input photos --workspace work` goes from your folder to Label Studio.\n\n"
        "`guardset collect --workspace work` then `guardset export --workspace work` write the Parquet."
    ),
)
studio_app = App(name="annotate", help="Run the workspace's own Label Studio.")
app.command(studio_app)

console = Console()

WorkspaceArg = Annotated[str, Parameter(name=["--workspace", "-w"], help="Folder or s3://bucket/prefix.")]
ConfigArg = Annotated[Path | None, Parameter(name=["--config", "-c"], help="YAML file of settings.")]


@app.command
def build(
    *,
    input: Annotated[Path, Parameter(name=["--input", "-i"], help="Folder of images.")],
    workspace: WorkspaceArg,
    config: ConfigArg = None,
    publish: Annotated[bool, Parameter(help="Put the images before annotators at the end.")] = True,
) -> None:
    """Build certified pairs and recaptions from a folder, and publish the images to Label Studio.

    Stopped or killed, the same command goes on where it was. Run twice, the second run only looks things up.

    Example: `guardset build --input photos --workspace work --config guardset.yaml`
    """
    from flows.annotate import publish_flow
    from flows.build import build as run_build

    settings = _settings(config)
    with _progress():
        summary = run_build(settings, input, workspace)
    _show_stages(summary.stages)
    console.print(f"Build {summary.build_id} is recorded in {workspace}/builds/.", highlight=False)
    if publish:
        with _progress():
            publication = publish_flow(settings, workspace)
        console.print(
            f"Published {publication.published} images to Label Studio project {publication.project_id}; "
            f"{publication.already_there} were there before.",
            highlight=False,
        )
        _show_login(workspace, settings)
        console.print(f"When people have labelled: guardset collect --workspace {workspace}", highlight=False)


@app.command
def collect(
    *,
    workspace: WorkspaceArg,
    config: ConfigArg = None,
    full: Annotated[bool, Parameter(help="Read every annotation, not only what changed.")] = False,
    watch: Annotated[float | None, Parameter(help="Repeat after so many seconds, until stopped.")] = None,
) -> None:
    """Fetch the votes that annotators have given so far, and ask a third person or a judge where they disagree.

    Example: `guardset collect --workspace work --watch 300`
    """
    while True:
        _collect_once(workspace, config, full)
        if watch is None:
            return
        time.sleep(watch)


def _collect_once(workspace: str, config: Path | None, full: bool) -> None:
    from flows.annotate import collect_flow

    with _progress():
        collection = collect_flow(_settings(config), workspace, full=full)
    result, step = collection.result, collection.round
    console.print(
        f"{len(result.votes)} votes from {result.annotations} annotations ({result.new} new, {result.gone} gone, "
        f"{result.skipped} skipped); {len(result.rejected)} malformed ones are in quarantine.",
        highlight=False,
    )
    if result.deleted:
        console.print(f"{len(result.deleted)} annotations were deleted on the server.", highlight=False)
    if step.overlap.raised or step.adjudication.cells:
        console.print(
            f"{step.overlap.raised} images go to another person, {step.adjudication.cells} disputes to a judge.",
            highlight=False,
        )


@app.command
def export(
    *,
    workspace: WorkspaceArg,
    config: ConfigArg = None,
    version: Annotated[str | None, Parameter(help="Name of this version; default: a hash of its content.")] = None,
) -> None:
    """Write sft/, rl/ and benchmark/ as Parquet, with a dataset card and a report.

    Example: `guardset export --workspace work`
    """
    from flows.export import export_flow

    with _progress():
        result = export_flow(_settings(config), workspace, version)
    console.print(f"{'Found' if result.looked_up else 'Wrote'} {result.path}", highlight=False)
    console.print(f"Open {result.path}/report.html", highlight=False)


@app.command
def status(*, workspace: WorkspaceArg, config: ConfigArg = None) -> None:
    """Show the newest build, what was refused, and how far annotation is.

    Example: `guardset status --workspace work`
    """
    from flows.status import describe

    for part in describe(_settings(config), workspace):
        console.print(part, highlight=False)


@app.command
def doctor(*, workspace: WorkspaceArg = "workspace", config: ConfigArg = None) -> None:
    """Say what is missing on this machine, and what to do about it.

    Example: `guardset doctor --workspace work --config guardset.yaml`
    """
    from flows.doctor import examine

    checks = examine(_settings(config), workspace)
    table = Table()
    for heading in ("", "check", "found", "what to do"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        table.add_row("!" if check.advice else "ok", check.name, check.found, check.advice)
    console.print(table)
    if any(check.advice for check in checks):
        sys.exit(1)


@app.command
def settings() -> None:
    """Print every setting with its default and what it is for, as a config file to start from.

    Example: `guardset settings > guardset.yaml`
    """
    from flows.settings_text import settings_yaml

    sys.stdout.write(settings_yaml())


@app.command
def demo(
    *,
    workspace: Annotated[Path, Parameter(name=["--workspace", "-w"], help="Local folder.")] = Path("demo-workspace"),
    port: Annotated[int, Parameter(help="Port of the local Label Studio.")] = 8080,
) -> None:
    """Run the whole job on drawn images, with two scripted annotators.

    Example: `guardset demo --workspace demo-workspace`
    """
    from flows.demo import demo_settings, run_demo

    with _progress():
        summary, result = run_demo(workspace, port, lambda text: console.print(text, highlight=False))
    _show_stages(summary.stages)
    console.print(f"Export: {result.path} (labels are simulated)", highlight=False)
    console.print(f"Report: {result.path}/report.html", highlight=False)
    _show_login(str(workspace), demo_settings(workspace, port))


@studio_app.command
def up(*, workspace: WorkspaceArg, config: ConfigArg = None) -> None:
    """Start the workspace's Label Studio on 127.0.0.1 and show its login."""
    from flows.studio import local_server

    settings = _settings(config)
    with _progress():
        local_server(workspace, settings.annotation)
    _show_login(workspace, settings)


@studio_app.command
def down(*, workspace: WorkspaceArg) -> None:
    """Stop the workspace's Label Studio; its data stay."""
    from annotation.server import stop

    console.print("Stopped." if stop(workspace) else "It was not running.")


@studio_app.command(name="status")
def studio_status(*, workspace: WorkspaceArg, config: ConfigArg = None) -> None:
    """Show whether the workspace's Label Studio runs, and its login."""
    _show_login(workspace, _settings(config))


def _settings(config: Path | None) -> "Settings":
    from flows.settings import load_settings

    return load_settings(config)


@contextmanager
def _progress() -> Iterator[None]:
    from flows.progress import shown_on

    with shown_on(console):
        yield


def _show_stages(stages: "list[StageSummary]") -> None:
    from flows.progress import summary_table

    console.print(summary_table(stages))


def _show_login(workspace: str, settings: "Settings") -> None:
    from annotation.server import status as server_status

    if settings.annotation.url is not None:
        console.print(f"Label Studio: {settings.annotation.url}", highlight=False)
        return
    running = server_status(workspace)
    if running is None:
        console.print(f"Label Studio is not running. Start it: guardset annotate up --workspace {workspace}")
        return
    console.print(f"Label Studio: {running.url}", highlight=False)
    console.print(f"  login {running.username}  password {running.password}", highlight=False)
    console.print(f"  It keeps running. Stop it: guardset annotate down --workspace {workspace}", highlight=False)


def _guarded(run: Callable[[], object]) -> int:
    """Turn errors into a plain sentence and an exit status: 1 for what we foresaw, 130 for Ctrl-C."""
    try:
        run()
    except FatalError as error:
        console.print(f"[bold red]Stopped.[/] {error}", highlight=False, soft_wrap=True)
        return 1
    except GuardsetError as error:
        console.print(f"[bold red]Stopped.[/] {error} The same command goes on where it was.", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("Stopped by you. Nothing is lost: the same command goes on where it was.")
        return 130
    return 0


def main() -> None:
    """Entry point of the console script."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    sys.exit(_guarded(lambda: app()))


if __name__ == "__main__":
    main()
