"""How good recaptions are, checked against the truth of drawn scenes, and what the certificate catches.

    PYTHONPATH=. python benchmarks/recaption_quality.py [--scenes 300] [--seed 70000]

End to end as a build runs it: the micro VLM locates and describes held-out scenes and looks again at its findings, the
micro rewriter puts those into the model's own captions, the certificate judges. Then the certificate alone, on 200
good rewrites and on 200 with one fault planted each. Exits with status 1 when an aim is missed.
"""

import argparse
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from flows.pipeline import ready_stages
from micro.preset import preset
from micro.scenes import Scene, draw_scene, scene_size
from micro.world import VOCABULARY, WORLD
from policies.phrases import POSITIONS
from recaption.rewrite import plan_rewrites
from storage.images import encode_png
from storage.records.images import Image, Picture
from storage.records.recaption import Recaption, RewriteTask
from storage.records.tables import to_table
from storage.workspace import Workspace
from tests.quality.planted import PLANTED, good_cases, planted_cases, reasons

_PLACES = "|".join(sorted(POSITIONS, key=len, reverse=True))


@dataclass(frozen=True)
class EndToEnd:
    """Counts over scenes; `wrong` names what certified recaptions say and the scenes deny, by scene."""

    scenes: int
    certified: int
    suppressed: int  # scenes with sensitive objects that the caption leaves out
    restored: int  # of these, the certified recaption names every one of them
    edited: int  # certified recaptions into which something was put
    invented: Mapping[str, tuple[str, ...]]  # kinds that the scene lacks
    misplaced: Mapping[str, tuple[str, ...]]  # kinds that the scene has, but not there
    refused: Mapping[str, int]  # by stage and reason


@dataclass(frozen=True)
class Caught:
    """What the certificate says about good rewrites and about planted faults."""

    good: int
    good_refused: Mapping[str, int]
    right: Mapping[str, tuple[int, int]]  # fault -> (refused for the right reason, planted)


def end_to_end(root: str, count: int, seed: int) -> EndToEnd:
    """Locate, caption, rewrite and certify `count` held-out scenes with the micro models."""
    workspace = Workspace.open(root)
    tools = {name: stage.make(workspace) for name, stage in ready_stages(preset(), WORLD).items()}
    images, scenes = _draw(workspace, count, seed)
    table = to_table([Picture(image.image_id, image.blob) for image in images], Picture)
    located = tools["locate"].run_shard(table)
    captions = tools["caption"].run_shard(table)
    tasks = plan_rewrites(captions.ok, images, located.ok, VOCABULARY)
    seen = tools["second_look"].run_shard(to_table(tasks, RewriteTask))
    drafts = tools["rewrite"].run_shard(to_table(seen.ok, RewriteTask))
    judged = tools["certify_recaption"].run_shard(to_table(drafts.ok, Recaption))
    said = {row.image_id: row.text for row in captions.ok}
    mentioned = VOCABULARY.mentioned
    missing = {key: _hidden(scene) - mentioned(said.get(key, "")) for key, scene in scenes.items()}
    certified = {row.image_id: row for row in judged.ok}
    restored = [k for k, kinds in missing.items() if kinds and k in certified and kinds <= mentioned(certified[k].text)]
    stages = {"locate": located, "caption": captions, "second look": seen, "rewrite": drafts, "certify": judged}
    return EndToEnd(
        scenes=count,
        certified=len(certified),
        suppressed=sum(bool(kinds) for kinds in missing.values()),
        restored=len(restored),
        edited=sum(bool(row.inserted) for row in certified.values()),
        invented={k: lies for k, row in certified.items() if (lies := _invented(row, scenes[k]))},
        misplaced={k: lies for k, row in certified.items() if (lies := _misplaced(row, scenes[k]))},
        refused=Counter(f"{name} {r.code}" for name, result in stages.items() for r in result.rejected),
    )


def _draw(workspace: Workspace, count: int, seed: int) -> tuple[list[Image], dict[str, Scene]]:
    images, scenes = [], {}
    for number in range(seed, seed + count):
        scene = draw_scene(number, split="heldout", size=scene_size(number))
        blob = workspace.blobs.put(encode_png(scene.image))
        height, width, _ = scene.image.shape
        images.append(Image(blob, blob, blob, str(number), width, height, "PNG", "0" * 16, "demo", True, "{}"))
        scenes[blob] = scene
    return images, scenes


def _hidden(scene: Scene) -> set[str]:
    return {item.kind for item in scene.objects if VOCABULARY[item.kind].sensitive}


def _inserted(row: Recaption) -> str:
    return " / ".join(span.text for span in row.inserted)


def _invented(row: Recaption, scene: Scene) -> tuple[str, ...]:
    """Kinds among the inserted words that the scene does not show."""
    return tuple(sorted(VOCABULARY.mentioned(_inserted(row)) - {item.kind for item in scene.objects}))


def _misplaced(row: Recaption, scene: Scene) -> tuple[str, ...]:
    """Kinds that the scene shows, put in with a place that is not theirs."""
    wrong = []
    for noun, place in re.findall(rf"\ba ([\w ]+?) at the ({_PLACES})\b", _inserted(row)):
        kinds = VOCABULARY.mentioned(noun) & {item.kind for item in scene.objects}
        if kinds and not any(item.kind in kinds and item.position == place for item in scene.objects):
            wrong.append(f"{noun} at the {place}")
    return tuple(wrong)


def caught(count: int = 200) -> Caught:
    """The rewriter's stage and the certificate on `count` good rewrites and as many with a planted fault."""
    each, right = count // len(PLANTED), {}
    for number, (name, (_, codes)) in enumerate(PLANTED.items()):
        found = reasons(planted_cases(name, each, seed=1000 * (number + 1)))
        right[name] = (sum(code in codes for code in found.values()), len(found))
    good = reasons(good_cases(count, seed=0))
    return Caught(count, Counter(code for code in good.values() if code), right)


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=70_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        whole = end_to_end(root, args.scenes, args.seed)
    checked = caught()
    console = Console(width=120)
    table = Table("measure", "reached", "aim", "")
    right, planted = (sum(pair[n] for pair in checked.right.values()) for n in (0, 1))
    good_refused = sum(checked.good_refused.values())
    aims = [
        ("recaptions certified, of scenes", whole.certified, whole.scenes, ">= 95 %", 0.95, 1.0),
        ("certified ones that add what the scene lacks", len(whole.invented), whole.edited, "0", 0.0, 0.0),
        ("certified ones that add it in a wrong place", len(whole.misplaced), whole.edited, "0", 0.0, 0.0),
        ("all suppressed facts restored, of scenes with any", whole.restored, whole.suppressed, ">= 95 %", 0.95, 1.0),
        ("planted faults refused for the right reason", right, planted, ">= 98 %", 0.98, 1.0),
        ("good rewrites refused", good_refused, checked.good, "<= 3 %", 0.0, 0.03),
    ]
    met = [low <= part / max(of, 1) <= high for _, part, of, _, low, high in aims]
    for (what, part, of, aim, _, _), is_met in zip(aims, met, strict=True):
        table.add_row(what, f"{part} of {of} ({part / max(of, 1):.1%})", aim, "" if is_met else "missed")
    for name, (part, of) in checked.right.items():
        table.add_row(f"  fault: {name}", f"{part} of {of}", "", "")
    console.print(table)
    console.print("refused:", dict(whole.refused), highlight=False)
    console.print("invented:", [*whole.invented.values()], "misplaced:", [*whole.misplaced.values()], highlight=False)
    sys.exit(0 if all(met) else 1)


if __name__ == "__main__":
    main()
