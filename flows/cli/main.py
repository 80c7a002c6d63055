"""The command `guardset`: what it is made of, and how an error reaches the user."""

import os
import signal
import sys
from collections.abc import Callable
from errno import EACCES, EDQUOT, EEXIST, EISDIR, ENOSPC, ENOTDIR, EPERM, EROFS
from importlib.metadata import version
from types import FrameType
from typing import Annotated

from cyclopts import App, Parameter
from rich.markup import escape

from flows.cli.console import console
from flows.cli.lines import LogForm, choose_form, tell
from storage.errors import FatalError, GuardsetError
from storage.validation import printable

# Set before the libraries are imported. Their chatter would tear the progress bars, and none may phone home.
_QUIET = {
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "DIFFUSERS_VERBOSITY": "error",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
    "OMP_NUM_THREADS": "1",
}

# A file or folder that cannot be what the user asked for, or a disk that is full: no fault of the program.
_OF_THE_DISK = (EACCES, EPERM, EROFS, EEXIST, ENOTDIR, EISDIR, ENOSPC, EDQUOT)

_STOPPED = 130  # as shells count a Ctrl-C

app = App(
    name="guardset",
    suppress_keyboard_interrupt=False,  # `_guarded` says what Ctrl-C means
    version=lambda: version("guardset"),
    help="Build the data that train and test a policy-adaptive image guardrail.",
    help_epilogue=(
        "Examples:\n\n"
        "`guardset init --preset classical` writes a config to be filled in.\n\n"
        "`guardset build --input photos --workspace work --config guardset.yaml` goes from your images to Label "
        "Studio.\n\n"
        "`guardset collect --workspace work` then `guardset export --workspace work` write the Parquet."
    ),
)

# In the order of a first day's work. A command's module is imported when it is called, so its first sentence stands
# here as well, for `guardset --help`.
_COMMANDS = {
    "starting:init": "Write a commented config that works once its blanks are filled.",
    "starting:doctor": "Try what a build needs, and say what is missing and what to do about it.",
    "starting:settings": "Print every setting with its default and what it is for.",
    "hosting:up": "Start the workspace's own Label Studio and Prefect server on 127.0.0.1, and show where they are.",
    "hosting:down": "Stop the workspace's own Label Studio and Prefect server; their data stay.",
    "hosting:inspect": "Show what a build would read: how many images, and the first ten as they were understood.",
    "building:build": "Build certified pairs and recaptions from a folder, and publish the images to Label Studio.",
    "labelling:publish": "Put the newest build before annotators; what is there already stays as it is.",
    "labelling:collect": "Fetch the votes given so far, and ask a third person or a judge where they disagree.",
    "labelling:status": "Show the newest build, what was refused, how far annotation is, and where the servers are.",
    "explaining:explain": "Say what a reason code means, and what to do about it.",
    "explaining:show": "Show one image's way through every stage: regions, edits, certificates, captions, labels.",
    "exporting:export": "Write the Parquet that trainers read, with configs for them, a dataset card and a report.",
    "exporting:verify": "Read an export again and list what is wrong with it; the exit status is 1 if anything is.",
    "exporting:diff": "Say what differs between two exports: rows, labels, splits, policies and settings, and why.",
    "auditing:audit": "Judge the pairs of any set: what changed and where, and what labels and splits say.",
    "exporting:report": "Write the report of what is there so far, without an export.",
    "evaluating:evaluate": "Ask a guard every question of a benchmark, score its answers, and update the leaderboard.",
    "hosting:serve": "Run build, collect and export on their schedules, with one worker here, until stopped.",
    "labelling:annotators_app": "Look after the accounts of those who label.",
    "training:train_app": "Train a guard on an export, in the paper's two stages.",
    "policies:policy_app": "Look after policies: what each rule means, and where two policies differ.",
    "hosting:check": "Read every file of a workspace and list what is damaged; the exit status is 1 if anything is.",
    "forgetting:forget": "Remove an image with all that was made of it and said of it, and keep it from coming back.",
    "hosting:workspace_app": "Look after a workspace.",
}  # fmt: skip
# Of a command that has them; the others show those of the whole program.
_EXAMPLES = {
    "auditing:audit": (
        "Examples:\n\n"
        "`guardset audit SafeEditBench` reads the folder of a published set as it was downloaded.\n\n"
        "`guardset audit pairs.parquet --image before --edited after --label unsafe --edited-label unsafe_after` "
        "reads a table with both sides in a row.\n\n"
        "`guardset audit theirs.parquet work/exports/guardset/1.0 --to compared` holds sets against each other."
    ),
}
for place, sentence in _COMMANDS.items():
    more = {"help_epilogue": _EXAMPLES[place]} if place in _EXAMPLES else {}
    name = place.split(":")[1].removesuffix("_app")
    app.command(f"flows.cli.commands.{place}", name=name, help=sentence, **more)


@app.meta.default
def launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    log: Annotated[
        LogForm, Parameter(help="Form of progress: json writes a JSON object a line to stderr, shard by shard.")
    ] = "text",
) -> object:
    """Choose what holds for every command, then run the one that is named."""
    choose_form(log)
    return app(tokens)


def _guarded(run: Callable[[], object]) -> int:
    """Turn errors into a plain sentence and an exit status: 1 for what we foresaw, 130 for Ctrl-C.

    What happened comes first, then the error's notes, which say how to go on.
    """
    try:
        run()
    except GuardsetError as error:
        again = "" if isinstance(error, FatalError) else " The same command resumes where it left off."
        return _stopped(f"[bold red]Stopped.[/] {escape(str(error))}{again}", error, 1)
    except OSError as error:
        if error.filename is None or error.errno not in _OF_THE_DISK:
            raise
        return _stopped(f"[bold red]Stopped.[/] {escape(str(error.filename))}: {error.strerror}.", error, 1)
    except KeyboardInterrupt as error:
        return _stopped("Stopped by you. Nothing is lost: the same command resumes where it left off.", error, _STOPPED)
    return 0


def _stopped(sentence: str, error: BaseException, status: int) -> int:
    tell("stopped", error=str(error), kind=type(error).__name__)
    console.print(printable(sentence), highlight=False, soft_wrap=True)
    for note in getattr(error, "__notes__", ()):
        console.print(note, highlight=False, soft_wrap=True, markup=False)
    return status


def _stop_once_then_now() -> None:
    """Ctrl-C and a scheduler's SIGTERM stop a command in order; a second one ends the process where it is."""

    def stop(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGINT, end)
        signal.signal(signal.SIGTERM, end)
        console.print("Stopping. What is under way is finished first, since it is paid for; once more stops at once.")
        raise KeyboardInterrupt

    def end(_: int, __: FrameType | None) -> None:
        os._exit(_STOPPED)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)


def run(command: Callable[[], object]) -> None:
    """Run a command line to its end, and leave with its exit status."""
    _stop_once_then_now()
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    sys.exit(_guarded(command))


def main() -> None:
    """Entry point of the console script."""
    run(app.meta)


if __name__ == "__main__":
    main()
