"""What an export's bytes depend on, as one hash: equal data, settings and code give the same version."""

from collections.abc import Iterator
from dataclasses import asdict
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

import PIL
import pyarrow as pa

from guard.contract.prompt import prompt_hash
from guard.contract.recipe import load_recipe
from guard.export.dataset import Dataset, exportable_part
from guard.export.reward_file import REWARD_FILE, reward_file
from guard.export.settings import GuardSettings
from guard.export.trainer_configs import DEFAULT_RECIPE
from reporting.page import PARTS, page_part
from storage.records.ids import content_id, payload

EXPORT_VERSION = 8  # raise it when the code changes what an export holds


def fingerprint_of(dataset: Dataset, settings: GuardSettings) -> str:
    """Hash of all that decides the export's bytes. Files of other benchmarks count by name and size."""
    data, not_exportable = exportable_part(dataset)
    references = [(p.name, p.stat().st_size) for folder in settings.other_benchmarks for p in _files_below(folder)]
    templates = [
        ("recipe", load_recipe(DEFAULT_RECIPE).model_dump(mode="json")),
        (REWARD_FILE, reward_file()),
        *((f.name, f.read_text(encoding="utf-8")) for f in _templates(files("guard.export").joinpath("templates"))),
        *((name, page_part(name)) for name in PARTS),
    ]
    return content_id(
        "export",
        EXPORT_VERSION,
        [pa.__version__, PIL.__version__, prompt_hash(rules=settings.rl.name_rules), templates],
        {**settings.model_dump(mode="json"), "other_benchmarks": references},
        not_exportable,
        [
            content_id(*map(payload, rows))
            for rows in (
                data.sorted_images(),
                data.pairs,
                data.recaptions,
                data.labels,
                data.candidates,
                data.deltas.values(),
            )
        ],
        [p.content_hash for p in data.policies],
        [data.attributes, data.policies.wordings, sorted(data.prefilled), data.reworded],
        [[a.policy_id, a.n_items, a.raw, a.kappa, a.alpha] for a in data.agreement],
        [asdict(s) for s in data.stages],
        [(stage, [(r.code, r.key) for r in rows]) for stage, rows in data.rejections.items()],
        data.dropped,
        [(i, sorted(seen.things), sorted(seen.unknown)) for i, seen in sorted(data.confirmed.evidence.items())],
        [asdict(row) for row in data.confirmed.agreement],  # type: ignore[call-overload]
        data.confirmed.simulated,
    )


def _files_below(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [p for p in [path] if p.exists()]


def _templates(folder: Traversable) -> Iterator[Traversable]:
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        if entry.is_dir():
            yield from _templates(entry)
        else:
            yield entry
