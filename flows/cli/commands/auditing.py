"""`guardset audit`."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.audit import PAIRS, REPORT, SUMMARY, set_name
from flows.audit import audit as audit_one
from flows.cli.console import console
from flows.cli.steps import progress
from flows.cli.tables import TextTable
from guard.export.audit import GOOD, Audit
from guard.export.audit_page import WORDS, shortcut_warnings
from storage.errors import FatalError
from storage.pair_columns import PairColumns
from storage.pair_source import PairSource
from storage.reasons import remedy_of

SETS = "sets.jsonl"


def audit(
    *data: Annotated[str, Parameter(help="A folder of pictures, a .parquet file, a folder of them, or an export.")],
    to: Annotated[Path, Parameter(help="Folder to write into; of several sets, one folder each below it.")] = Path(
        "audit"
    ),
    overwrite: Annotated[bool, Parameter(help="Replace an audit that is there already.", negative="")] = False,
    image: Annotated[str | None, Parameter(help="Column of pictures; of originals where a row is a pair.")] = None,
    edited: Annotated[str | None, Parameter(help="Column of edited pictures where a row is a pair.")] = None,
    path: Annotated[str | None, Parameter(help="Column of file names, by which rows become pairs.")] = None,
    mask: Annotated[str | None, Parameter(help="Column of masks: white where the edit was meant to be.")] = None,
    label: Annotated[tuple[str, ...], Parameter(help="Column of labels; once for each policy.", negative="")] = (),
    edited_label: Annotated[
        tuple[str, ...], Parameter(help="The same of the edited side, in the same order.", negative="")
    ] = (),
    policy: Annotated[str | None, Parameter(help="Column that names the policy of a row's label.")] = None,
    suffix: Annotated[str, Parameter(help="How the name of an edited file ends.")] = "_edited",
    root: Annotated[Path | None, Parameter(help="Folder that the paths of a table may lead into.")] = None,
) -> None:
    """Judge the pairs of any set: what changed and where, and what labels and splits say.

    No config, no workspace and no model is needed. SafeEditBench's columns, our own exports, tables with both sides in
    a row, and folders with `x.jpg`, `x_edited.jpg` and, if there is one, `x_mask.png` are known without an option.
    A folder's `metadata.csv` or `metadata.jsonl` gives labels and splits.
    """
    if not data:
        raise FatalError("Name a set: a folder of pictures, a .parquet file, a folder of them, or an export.")
    columns = PairColumns(image, edited, path, mask, policy, label, edited_label, suffix, root)
    folders = _folders(tuple(dict.fromkeys(data)), to, overwrite)
    for place in folders if len(folders) > 1 else ():
        PairSource(place, columns).pairs()  # a set that cannot be read stops the command before any picture is
    found = []
    with progress():
        for place, folder in folders.items():
            found.append(audit_one(place, columns, folder))
    _remove_others(to, set(folders.values()))
    for one in found:
        _show(one)
    if len(found) > 1:
        rows = [json.dumps(one.as_row()) for one in found]
        (to / SETS).write_text("\n".join(rows) + "\n", encoding="utf-8")
    console.print(TextTable("Sets" if len(found) > 1 else "The set", ("", *_names(found)), _compared(found)))
    for folder in folders.values():
        console.print(f"Open {folder / REPORT}", highlight=False, soft_wrap=True)


def _folders(data: Sequence[str], to: Path, overwrite: bool) -> dict[str, Path]:
    """Where each set's audit goes; raises FatalError where something else is."""
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        if not overwrite:
            raise FatalError(f"{to} is there already. Name another folder with --to, or replace it with --overwrite.")
        if not to.is_dir() or not _is_ours(to):
            raise FatalError(f"{to} holds more than an audit, so it is not replaced. Name another folder with --to.")
        if any(Path(place).resolve().is_relative_to(to.resolve()) for place in data):
            raise FatalError(f"{to} holds what is to be audited, so it is not replaced. Name another folder with --to.")
    if len(data) == 1:
        return {data[0]: to}
    folders: dict[str, Path] = {}
    for place in data:
        name = set_name(place)
        taken = sum(folder.name.split("~")[0] == name for folder in folders.values())
        folders[place] = to / (f"{name}~{taken + 1}" if taken else name)
    return folders


def _remove_others(to: Path, kept: set[Path]) -> None:
    """What an audit that was replaced left there, once the new one is whole."""
    own = kept | {to / name for name in (REPORT, PAIRS, SUMMARY) if to in kept}
    for one in [path for path in to.iterdir() if path not in own]:
        shutil.rmtree(one) if one.is_dir() else one.unlink()


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds one audit or several, and nothing else."""
    inside = list(folder.iterdir())
    return _is_audit(folder) or all(p.name == SETS or (p.is_dir() and _is_audit(p)) for p in inside)


def _is_audit(folder: Path) -> bool:
    return {p.name for p in folder.iterdir()} == {REPORT, PAIRS, SUMMARY}


def _show(audit: Audit) -> None:
    """The verdicts of one set."""
    rows = [(WORDS.get(code, code), remedy_of(code), str(audit.verdicts.get(code, 0)), str(n))
            for code, n in audit.reasons.items()]  # fmt: skip
    rows.insert(0, (GOOD, "", str(audit.verdicts.get(GOOD, 0)), ""))
    console.print(
        TextTable(
            f"{audit.name}: {audit.pairs} {'pair' if audit.pairs == 1 else 'pairs'}",
            ("verdict", "what to do", "pairs", "with this reason"),
            rows,
            2,
        )
    )
    for sentence in shortcut_warnings(audit):
        console.print(sentence, highlight=False, markup=False)
    if audit.unread_labels:
        values = ", ".join(f"{value!r}" for value in list(audit.unread_labels)[:5])
        console.print(
            f"Labels that are neither safe nor unsafe were not read: {values}.", highlight=False, markup=False
        )


def _names(found: Sequence[Audit]) -> list[str]:
    return [one.name for one in found]


def _compared(found: Sequence[Audit]) -> list[tuple[str, ...]]:
    """A line for each figure, a column for each set. One set's verdicts were told already."""
    codes = dict.fromkeys(code for one in found for code in one.reasons) if len(found) > 1 else {}
    lines = [
        ("pairs", *(str(one.pairs) for one in found)),
        ("good", *(_share(one.verdicts.get(GOOD, 0), one) for one in found)),
    ]
    lines += [(WORDS.get(code, code), *(_share(one.reasons.get(code, 0), one) for one in found)) for code in codes]
    lines.append(("families in two splits", *(str(one.leaking_families) for one in found)))
    rows = [one.as_row() for one in found]
    lines.append(("labels guessed by the role alone", *(_percent(row["by_role"]) for row in rows)))
    lines.append(("by one label", *(_percent(row["by_one_label"]) for row in rows)))
    lines.append(("probe, unsafe against safe (AUC)", *(_auc(row["probe_auc"]["unsafe"]) for row in rows)))
    lines.append(("probe, edited against original (AUC)", *(_auc(row["probe_auc"]["edited"]) for row in rows)))
    return lines


def _share(number: int, audit: Audit) -> str:
    return f"{number} ({_percent(number / audit.pairs)})"


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.0f} %"


def _auc(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.2f}"
