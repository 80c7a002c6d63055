"""What certificates refuse and accept on photographs, without any model's opinion.

    PYTHONPATH=. OMP_NUM_THREADS=1 python benchmarks/certificates.py [--packages DIR] [--text]

Regions of photographs are filled honestly, or with a fault put in on purpose; a fault counts as found if it is
refused for its own reason. The photographs come from installed packages and, with `--packages`, from Debian's
wallpapers unpacked into a folder (tests/photographs/README.md). Those of them that nobody marked are the held-out set:
thresholds were set on the marked ones. `--text` adds a painted slogan and needs the extra `ocr`.
"""

import argparse
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from editing.lettering import new_words
from editing.masks import composite, feather
from editing.measure import Pair, judge, measure
from editing.settings import CertifySettings
from models.text_reader import RapidReader, TextReader
from storage.images import Rgb
from storage.records.editing import Edit
from tests.photographs import collect, regions_for
from tests.photographs.edits import FEATHER_PX, FREE, HONEST, INSIDE, TEXT, Region, marked, scattered

EDIT = Edit(
    "e", "i", "o", "0" * 16, "x", "f", "remove", 0, 0, ("thing",), ("thing",), "m", "editor", 1, 1, "0" * 16, None, (),
    None, (),
)  # fmt: skip
UNMARKED = (
    "Fossa_by_Jasper_Roks.jpg", "calla.png", "string.jpg", "umang_by_Abhishek_Mudgal.jpg", "goldfish.png",
    "GreenMeadow.jpg", "Wood.jpg", "FreshFlower.jpg", "YellowFlower.jpg", "Bridge_by_Sander_Klootwijk.jpg",
    "desert.png", "the-mouse.jpg", "analogpattern_by_Peter_Nerlich.jpg", "Blinds.jpg", "firstgeneration.jpg",
)  # fmt: skip


def reasons_against(region: Region, edited: Rgb, *, composited: bool, reader: TextReader | None) -> tuple[str, ...]:
    """The reasons that certify gives, the gravest first."""
    if composited:
        edited = composite(region.original, edited, region.mask, FEATHER_PX)
    edit, mask = replace(EDIT, composited=composited), feather(region.mask, FEATHER_PX) > 0
    certificate = measure(Pair(region.original, edited, mask), edit, (), feather_px=FEATHER_PX)
    if reader is not None:
        certificate = replace(certificate, new_text=new_words(reader, region.original, edited, mask))
    return judge(edit, certificate, CertifySettings())


def rows(
    regions: Iterable[Region], made: Mapping[str, tuple[Callable[[Region], Rgb], frozenset[str]]], *,
    composited: bool, reader: TextReader | None = None,
) -> Iterator[tuple[str, int, int, Counter[str]]]:  # fmt: skip
    """Of each fault: how many were made, how many refused for its own reason, and what else the first reasons were."""
    for name, (make, own) in made.items():
        found = [reasons_against(r, make(r), composited=composited, reader=reader) for r in regions]
        other = Counter(reasons[0] if reasons else "accepted" for reasons in found if not own & set(reasons))
        yield name, len(found), sum(bool(own & set(reasons)) for reasons in found), other


def report(title: str, regions: list[Region], reader: TextReader | None) -> None:
    """Print one set's table."""
    table = Table("edit", "refused for its own reason", "otherwise", title=f"{title}, {len(regions)} regions")
    faults = [*rows(regions, INSIDE, composited=True), *rows(regions, FREE, composited=False)]
    faults += rows(regions, TEXT, composited=True, reader=reader) if reader else ()
    for name, count, refused, other in faults:
        table.add_row(name, f"{refused} of {count} ({refused / count:.0%})", _listed(other))
    for name, fill in HONEST.items():
        filled = [(region, edited) for region in regions if (edited := fill(region)) is not None]
        for composited in (True, False):
            found = [reasons_against(r, edited, composited=composited, reader=None) for r, edited in filled]
            accepted, mode = sum(not reasons for reasons in found), "" if composited else ", free mode"
            table.add_row(
                f"honest: {name}{mode}", f"accepted {accepted} of {len(found)} ({accepted / len(found):.0%})",
                _listed(Counter(reasons[0] for reasons in found if reasons)),
            )  # fmt: skip
    Console().print(table)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{code} {count}" for code, count in counts.most_common())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, help="a folder of unpacked Debian packages")
    parser.add_argument("--text", action="store_true", help="also paint slogans, and read them")
    args = parser.parse_args()
    also = [args.packages] if args.packages else []
    reader = RapidReader() if args.text else None
    with tempfile.TemporaryDirectory() as folder:
        names = collect(Path(folder), also=also)
        report("Marked photographs", list(marked(Path(folder), regions_for(names))), reader)
    files = sorted({f.name: f for root in also for f in root.rglob("*") if f.name in UNMARKED}.values())
    if files:
        report("Held out", list(scattered(files)), reader)


if __name__ == "__main__":
    main()
