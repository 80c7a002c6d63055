"""The demo: the whole job on drawn scenes, with scripted annotators in place of people.

python -m micro.demo [--workspace FOLDER] [--port PORT] [--scenes N]
"""

import json
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Annotated

from cyclopts import App, Parameter
from PIL import Image as PilImage

from flows.annotate import collect_votes, publish_build
from flows.build import BuildSummary, build
from flows.cli.console import console
from flows.cli.main import run
from flows.cli.steps import progress, run_flow, show_servers, show_stages
from flows.engine.progress import report_progress
from flows.export import write_export
from flows.outcome import read_outcome
from flows.prefect_server import start_server
from flows.servers import local_server
from flows.settings import Settings
from guard.export.write import ExportResult
from micro.preset import preset
from micro.scenes import Scene, draw_scene, scene_size
from micro.simulate import simulate
from micro.visible import shown_by_edits
from micro.world import WORLD
from storage.errors import FatalError, GuardsetError
from storage.records.ids import sha256_hex
from storage.workspace import Workspace

SCENES = 36
FIRST_SEED = 9000
_SCENES = "scenes.json"


def demo_settings(folder: Path, port: int) -> Settings:
    """The preset in small shards, so that the bars move, with a block list that has one entry."""
    small = {"shard_rows": 12}
    return preset(
        {
            "ingest": {
                "licence": "demo only, see micro/README.md",
                "block_list": str(folder.absolute() / "blocked.txt"),
                **small,
            },
            "editing": {"locate": small, "edit": small},
            "recaption": {"caption": small, "rewrite": small},
            "annotation": {"port": port, "project": "guardset demo"},
            "export": {"name": "demo"},
        }
    )


def draw_input(folder: Path, scenes: int) -> None:
    """Fill `<folder>/input` with scenes and a few bad files, unless it is there already.

    `scenes.json` beside it says which scene each file is: the scripted annotators see it drawn again.
    """
    target = folder / "input"
    if (folder / _SCENES).exists():
        return
    target.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for seed in range(FIRST_SEED, FIRST_SEED + scenes):
        name = f"scene-{seed}.png"
        PilImage.fromarray(_scene(seed).image).save(target / name)
        drawn[name] = seed
    _add_bad_files(folder, target)
    (folder / _SCENES).write_text(json.dumps(drawn, indent=2), encoding="utf-8")


def _scene(seed: int) -> Scene:
    return draw_scene(seed, split="heldout", size=scene_size(seed))


def _add_bad_files(folder: Path, target: Path) -> None:
    """What real folders hold: a copy, a cut-off download, a wrong suffix, a note, and an image that is blocked."""
    first = (target / f"scene-{FIRST_SEED}.png").read_bytes()
    (target / "scene-copy.png").write_bytes(first)
    (target / "cut-off.png").write_bytes(first[: len(first) // 2])
    (target / "png-named.jpg").write_bytes(first)
    (target / "notes.txt").write_text("not an image", encoding="utf-8")
    blocked = (target / f"scene-{FIRST_SEED + 1}.png").read_bytes()
    (folder / "blocked.txt").write_text(
        f"sha256:{sha256_hex(blocked)}  # stands for a known illegal image\n", encoding="utf-8"
    )


def run_demo(folder: Path, port: int, scenes: int, tell: Callable[[str], None]) -> tuple[BuildSummary, ExportResult]:
    """The whole job in `folder`; everything done before is looked up."""
    root = str(folder)
    draw_input(folder, scenes)
    settings = demo_settings(folder, port)
    studio = _start_early(root, settings)  # its first start takes a minute, the models take about as long
    with progress():
        start_server(root)  # Prefect's: whatever `run_flow` runs shows on its pages
    tell(f"Building from {folder / 'input'}")
    source = folder / "input"
    summary = run_flow("build", lambda around: build(settings, source, root, around=around), root, input=source)
    studio()
    run_flow("publish", lambda _: publish_build(settings, root), root)
    tell("Two scripted annotators label through Label Studio's API; every place that shows their votes says simulated.")
    with progress():
        _simulated_votes(settings, folder)
    run_flow("collect", lambda _: collect_votes(settings, root), root)
    return summary, run_flow("export", lambda _: write_export(settings, root), root)


def _start_early(root: str, settings: Settings) -> Callable[[], None]:
    """Start Label Studio beside the build; the answer waits for it and raises what went wrong."""
    errors: list[GuardsetError] = []

    def start() -> None:
        try:
            local_server(root, settings.annotation)
        except GuardsetError as error:
            errors.append(error)

    thread = Thread(target=start, name="label-studio", daemon=True)
    thread.start()

    def wait() -> None:
        thread.join()
        if errors:
            raise errors[0]

    return wait


def _simulated_votes(settings: Settings, folder: Path) -> None:
    """Votes from the scenes' truth: an original shows what was drawn, an edit what its pixels still show of that."""
    workspace = Workspace.open(folder)
    seeds: dict[str, int] = json.loads((folder / _SCENES).read_text(encoding="utf-8"))
    outcome = read_outcome(workspace)
    scenes = {image.image_id: _scene(seeds[name]) for image in outcome.images if (name := image.source_key) in seeds}
    if not scenes:
        raise FatalError(f"{folder} was not made by this demo. Run it in an empty folder.")
    things = {image_id: [(item.kind, item.mask) for item in scene.objects] for image_id, scene in scenes.items()}
    truth = {image_id: [kind for kind, _ in some] for image_id, some in things.items()}
    truth |= shown_by_edits(outcome.edits, things.get, workspace.blobs.get)
    simulate(
        local_server(str(folder), settings.annotation),
        workspace,
        WORLD,
        truth,
        progress=lambda done, total: report_progress("annotate", done, total),
    )


def demo(
    *,
    workspace: Annotated[Path, Parameter(name=["--workspace", "-w"], help="Local folder.")] = Path("demo-workspace"),
    port: Annotated[int, Parameter(help="Port of the local Label Studio.")] = 8080,
    scenes: Annotated[int, Parameter(help="How many images are drawn, in a new folder.")] = SCENES,
) -> None:
    """Run the whole job on drawn images, with two scripted annotators.

    Example: `python -m micro.demo --workspace demo-workspace`
    """
    summary, result = run_demo(workspace, port, scenes, lambda text: console.print(text, highlight=False))
    show_stages(summary.stages)
    console.print(f"Export: {result.path} (labels are simulated)", highlight=False)
    console.print(f"Report: {result.path}/report.html", highlight=False)
    show_servers(str(workspace), demo_settings(workspace, port).annotation)


if __name__ == "__main__":
    app = App(name="python -m micro.demo", suppress_keyboard_interrupt=False)
    app.default(demo)
    run(app)
