"""What every command shares: the console, its arguments, and how progress and logins are shown."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

console = Console()

WorkspaceArg = Annotated[str, Parameter(name=["--workspace", "-w"], help="Folder or s3://bucket/prefix.")]
ConfigArg = Annotated[Path | None, Parameter(name=["--config", "-c"], help="YAML file of settings.")]
