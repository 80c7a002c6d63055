"""The pages under docs/ show pictures that are there, small, and none that no page shows."""

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_tours_pictures_are_there_and_small():
    shown = set(re.findall(r"!\[[^\]]+\]\((pictures/[^)]+)\)", (DOCS / "tour.md").read_text(encoding="utf-8")))
    files = {str(path.relative_to(DOCS)): path.stat().st_size for path in (DOCS / "pictures").iterdir()}
    assert shown == set(files)
    assert len(shown) == 8
    assert sum(files.values()) < 600_000


def test_links_between_the_pages_lead_somewhere():
    pages = [*DOCS.glob("*.md"), DOCS.parent / "README.md"]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text("utf-8"))]
    assert len(links) > 50
    assert not [f"{page.name}: {link}" for page, link in links if ":" not in link and not (page.parent / link).exists()]
