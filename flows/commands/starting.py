"""`guardset doctor`, `guardset settings` and `guardset demo`: a newcomer's first commands."""

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.commands.console import (
    ConfigArg,
    WorkspaceArg,
    console,
    running_flows,
    settings_from,
    show_login,
    show_stages,
)


def doctor(*, workspace: WorkspaceArg = "workspace", config: ConfigArg = None) -> None:
    """Say what is missing on this machine, and what to do about it.

    Example: `guardset doctor --workspace work --config guardset.yaml`
    """
    from flows.doctor import examine
    from flows.tables import TextTable

    checks = examine(settings_from(config), workspace)
    rows = [("!" if check.advice else "ok", check.name, check.found, check.advice) for check in checks]
    console.print(TextTable("", ("", "check", "found", "what to do"), rows, 4))
    if any(check.advice for check in checks):
        sys.exit(1)


def settings() -> None:
    """Print every setting with its default and what it is for, as a config file to start from.

    Example: `guardset settings > guardset.yaml`
    """
    from flows.settings_text import settings_yaml

    sys.stdout.write(settings_yaml())


def demo(
    *,
    workspace: Annotated[Path, Parameter(name=["--workspace", "-w"], help="Local folder.")] = Path("demo-workspace"),
    port: Annotated[int, Parameter(help="Port of the local Label Studio.")] = 8080,
) -> None:
    """Run the whole job on drawn images, with two scripted annotators.

    Example: `guardset demo --workspace demo-workspace`
    """
    from flows.demo import demo_settings, run_demo

    with running_flows():
        summary, result = run_demo(workspace, port, lambda text: console.print(text, highlight=False))
    show_stages(summary.stages)
    console.print(f"Export: {result.path} (labels are simulated)", highlight=False)
    console.print(f"Report: {result.path}/report.html", highlight=False)
    show_login(str(workspace), demo_settings(workspace, port))
