"""What `guardset audit` says of pairs whose fault is known, on photographs.

    PYTHONPATH=. OMP_NUM_THREADS=1 python benchmarks/audit.py --packages DIR [--marked]

The photographs are those of Debian's wallpapers, unpacked into a folder (tests/photographs/README.md), that nobody
marked: thresholds were set on the marked ones, of which `--marked` measures a part instead. Every kind of pair in
tests/photographs/pairs.py is made of one place of each; with masks only those kinds of which a mask is to decide.
"""

import argparse
import tempfile
from collections import Counter, defaultdict
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.certificates import UNMARKED
from editing.pair_change import judge_pair, measure_pair
from guard.export.audit import judged
from storage.records.audit import AuditedPair, PairLabel
from tests.photographs import collect, regions_for
from tests.photographs.edits import Region, marked, scattered
from tests.photographs.pairs import KINDS, Kind, planted

OF_MASKS = ("good", "target left")


def verdict_of(region: Region, kind: Kind, reasons: tuple[str, ...]) -> AuditedPair:
    """The row as the command judges it, with labels."""
    label = PairLabel("policy", "unsafe", "safe" if kind.turned else "unsafe")
    row = AuditedPair(
        pair_id=region.name, role="edited", verdict="", reasons=reasons, detail="", original="x.jpg", edited="y.jpg",
        original_id="x", edited_id="y", family_id="", original_split="", edited_split="", labels=(label,),
    )  # fmt: skip
    return judged([row])[0]


def measured(regions: list[Region], *, masks: bool) -> Table:
    """A line for each strength: how many got their verdict, how many at least the reason, and what the others got."""
    found: defaultdict[tuple[str, str], list[AuditedPair]] = defaultdict(list)
    for region in track(regions, "with masks" if masks else "without masks"):
        for name, strength, kind, edited in planted(region, OF_MASKS if masks else tuple(KINDS)):
            change = measure_pair(region.original, edited, region.mask if masks else None)
            found[name, strength].append(verdict_of(region, kind, judge_pair(change)))
    table = Table(
        "kind", "strength", "verdict", "reason", "otherwise", title="with masks" if masks else "without masks"
    )
    for name, kind in KINDS.items():
        if masks and name not in OF_MASKS:
            continue
        whole = [row for (of, _), rows in found.items() if of == name for row in rows]
        for strength, rows in [("all", whole), *((s, found[name, s]) for s in kind.strengths)]:
            right = sum(row.verdict == kind.verdict for row in rows)
            named = sum(kind.verdict in (row.verdict, *row.reasons) for row in rows)
            others = Counter(row.verdict for row in rows if kind.verdict not in (row.verdict, *row.reasons))
            table.add_row(
                name, strength, f"{right} of {len(rows)} ({right / max(1, len(rows)):.0%})", str(named),
                ", ".join(f"{code} {n}" for code, n in others.most_common()),
            )  # fmt: skip
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, required=True, help="a folder of unpacked Debian packages")
    parser.add_argument("--marked", action="store_true", help="the photographs on which thresholds were set")
    args = parser.parse_args()
    if args.marked:
        with tempfile.TemporaryDirectory() as folder:
            names = collect(Path(folder), also=[args.packages])
            regions = list(marked(Path(folder), regions_for(names)))[::8]
    else:
        files = sorted({f.name: f for f in args.packages.rglob("*") if f.name in UNMARKED}.values())
        regions = list(scattered(files, per_picture=1))
    console = Console(width=150)
    for masks in (False, True):
        console.print(measured(regions, masks=masks))


if __name__ == "__main__":
    main()
