"""A workspace as a build leaves it: three originals, two of which were edited, without any network."""

from flows.settings import keep_settings
from micro.preset import preset
from storage.records.editing import Certificate, Edit, Finding, Located
from storage.records.images import Image
from storage.records.recaption import Caption, Recaption
from storage.records.rejection import Rejection
from storage.records.tables import to_table


def image(name: str) -> Image:
    return Image(
        image_id=name, blob=f"blob-{name}", family_id=name, source_key=f"{name}.png", width=8,
        height=8, format="PNG", phash="0" * 16, licence="CC0-1.0", exportable=True, meta_json="{}",
    )  # fmt: skip


def located(name: str, *attributes: str) -> Located:
    findings = tuple(Finding(f"f-{name}-{a}", (a,), (), (0, 0, 4, 4), "", "Remove it.", 0.9) for a in attributes)
    return Located(name, tuple(sorted(attributes)), findings, "locator")


def edit(name: str, attribute: str, kind: str = "remove", after: tuple[str, ...] = ()) -> Edit:
    return Edit(
        edit_id=f"edit-{kind}-{name}", image_id=name, original_blob=f"blob-{name}", original_phash="0" * 16,
        edited_id=f"{kind}-{name}", family_id=name, kind=kind, candidate=0, seed=1,  # type: ignore[arg-type]
        attributes_before=(attribute,), target_attributes=(attribute,), mask="m", editor="e", width=8, height=8,
        phash="0" * 16, certificate=Certificate(0, 1.0, 0.9, 0.1, 3, attributes_after=after),
        attributes_removed=() if after else (attribute,), verdict="accepted", reasons=(),
    )  # fmt: skip


EDITS = [edit("knife", "blade"), edit("knife", "blade", "sham", ("blade",)), edit("love", "heart")]


def finish(workspace) -> None:
    """Write what a build of `knife` (a blade), `love` (a heart) and `calm` leaves: tables, record, settings."""
    names = ("knife", "love", "calm")
    rows = {
        "dedup": ([image(name) for name in names], Image),
        "locate": ([located("knife", "blade"), located("love", "heart"), located("calm")], Located),
        "certify": (EDITS, Edit),
        "select": (EDITS, Edit),
        "caption": ([], Caption),
        "certify_recaption": ([], Recaption),
    }
    for stage, (records, kind) in rows.items():
        refused = [Rejection("odd.png", "exact_duplicate", "", "{}")] if stage == "dedup" else []
        workspace.ledger.commit(stage, "f" * 64, to_table(records, kind), refused, rows_in=len(records) + len(refused))
    stage = {"name": "dedup", "rows_in": 4, "rows_out": 3, "rejected": {"exact_duplicate": 1}, "shards": 1}
    record = {
        "build_id": "build", "tables": {name: ["f" * 64] for name in rows},
        "stages": [{**stage, "looked_up": 0, "seconds": 1.0}],
    }  # fmt: skip
    workspace.write_json("builds/build.json", record)
    workspace.write_json("builds/latest.json", {"build_id": "build"})
    keep_settings(workspace, preset())
