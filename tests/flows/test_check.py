"""A finished workspace on a failing disk: what is damaged is named, never used, and made again by a build."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from annotation.config import project_key
from annotation.vote_store import State, store_votes, table_of, write_state
from flows.build import build
from flows.check import check
from flows.cli.main import app
from flows.cli.presets import preset_text
from flows.cli.status import describe
from flows.export import write_export
from flows.outcome import read_outcome
from flows.settings import BLANK, Settings, load_settings, settings_of
from guard.export.verify import verify
from policies.loading import load_policy_set
from storage.errors import FatalError
from storage.records.annotation import Vote
from storage.records.rejection import Rejection
from storage.store import LocalStore
from storage.workspace import Workspace
from tests.photographs import LABEL_MAP, POLICIES, collect, regions_for

FEW = ("rocket.jpg", "coffee.jpg", "pagoda.jpg", "dahlia.jpg")
FLIPS = 480
MADE_AGAIN = ("blobs/", "builds/", "claims/", "quarantine/", "sources/", "tables/", "usage/")


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `photographs`, and a workspace `work` that was built, labelled and exported."""
    folder = tmp_path_factory.mktemp("team")
    collect(folder / "photographs")
    for file in (folder / "photographs").iterdir():
        if file.name not in FEW:
            file.unlink()
    (folder / "photographs" / "broken.jpg").write_bytes(b"no image")
    (folder / "regions.json").write_text(json.dumps(regions_for(FEW)))
    raw = yaml.safe_load(preset_text("classical").replace(BLANK, "blank"))
    raw["policies"], raw["ingest"]["licence"] = str(POLICIES), "mixed"
    raw["editing"]["locate"] |= {"manifest": "regions.json", "label_map": LABEL_MAP}
    raw["editing"]["edit"]["size_px"] = 256
    (folder / "guardset.yaml").write_text(yaml.safe_dump(raw))
    settings = load_settings(folder / "guardset.yaml")
    run(folder, settings)
    vote(Workspace.open(folder / "work"), settings)
    Workspace.open(folder / "work").write_json("usage/edit/f.json", {"models": {}, "lost": {}, "seconds": 1.0})
    write_export(settings, str(folder / "work"), "1")
    return folder


def run(folder: Path, settings: Settings) -> None:
    build(settings, folder / "photographs", str(folder / "work"))


def vote(workspace: Workspace, settings: Settings) -> None:
    """What publishing and collecting leave: everybody follows the rules."""
    policies = load_policy_set(settings.policies)
    key, shown = project_key(policies), read_outcome(workspace).attributes
    tasks = {image_id: number for number, image_id in enumerate(sorted(shown), 1)}
    project = {"project_id": 1, "project_key": key, "title": "t", "prefilled_images": [], "tasks": tasks}
    workspace.write_json(f"annotation/{key}/project.json", project)
    votes = []
    for image_id, number in tasks.items():
        for policy in policies:
            derived = policies.derive(policy, shown[image_id])
            if derived.verdict != "undetermined":
                for person in (1, 2):
                    about = (f"{person}@x", False, 9.0, "", 1, number, 10 * number + person, "2026-01-01T00:00:00Z")
                    votes.append(Vote(image_id, policy.id, derived.verdict, tuple(derived.rules), *about))
    store_votes(workspace, key, table_of(votes), [Rejection("i", "too_fast", "1 s", '{"task": 1}')])
    write_state(workspace, key, State(cursor="2026-01-01T00:00:00+00:00", project_id=1, basis="b"))


@pytest.fixture
def copied(team: Path, tmp_path: Path) -> tuple[Path, Settings]:
    shutil.copytree(team / "work", tmp_path / "work")
    (tmp_path / "photographs").symlink_to(team / "photographs")
    return tmp_path, load_settings(team / "guardset.yaml")


def contents(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def made(root: Path) -> dict[str, Any]:
    """What a workspace holds, but for the seconds that it took and what it cost."""
    found: dict[str, Any] = {k: v for k, v in contents(root).items() if not k.startswith(("usage/", "claims/"))}
    for key in found:
        if key.startswith("builds/") and not key.endswith("latest.json"):
            record = json.loads(found[key])
            found[key] = {name: record[name] for name in ("tables", "cut", "policies", "decided", "settings")}
    return found


def flipped(data: bytes, place: int, bit: int) -> bytes:
    return data[:place] + bytes([data[place] ^ (1 << bit)]) + data[place + 1 :]


def test_a_sound_workspace_is_sound(team):
    assert check(str(team / "work")) == []
    assert verify(str(team / "work" / "exports" / "guardset" / "1")) == []


def test_every_torn_file_and_hundreds_of_flipped_bits_are_named(copied):
    folder, _ = copied
    root, chosen = folder / "work", random.Random(1)
    whole = {key: data for key, data in contents(root).items() if not key.endswith("/manifest.json")}
    workspace = Workspace.open(root)
    records = [key for key in whole if key.endswith((".json", ".yaml")) and not key.startswith("exports/guardset/")]
    right = {key: known(workspace, key) for key in records}
    count = 0
    for way in range(2 + -(-FLIPS // len(whole))):
        for key, data in whole.items():
            turned = flipped(data, chosen.randrange(len(data)), chosen.randrange(8))
            (root / key).write_bytes({0: b"", 1: data[: len(data) // 2]}.get(way, turned))
            count += way > 1
        named = {one.key for one in check(str(root))}
        for key in whole.keys() - named:  # a blank of JSON, or a letter of what says that a hash follows
            assert way > 1, key
            if key in right:
                assert known(workspace, key) == right[key], key
            else:
                assert key.endswith(".parquet")
                known(workspace, key)
    assert count >= 400


def known(workspace: Workspace, key: str) -> Any:
    """What a file says to its readers."""
    if key == "guardset.yaml":
        return settings_of(workspace)
    if key.endswith(".json"):
        return workspace.read_json(key)
    return workspace.read_parquet(key).to_pylist()


def observed(folder: Path, settings: Settings, *names: str) -> dict[str, str]:
    """What each of these commands says: its result, or the sentence with which it stops."""
    root = str(folder / "work")

    def status() -> str:
        kept = settings_of(Workspace.open(root))
        assert kept is not None
        return str([part if isinstance(part, str) else part.rows for part in describe(kept, root)])

    def exported() -> str:
        shutil.rmtree(folder / "there", ignore_errors=True)
        write_export(settings, root, "1", str(folder / "there"))
        found = contents(folder / "there")
        return str({key: hash(data) for key, data in found.items()})

    said = {}
    for name in names:
        try:
            said[name] = {"status": status, "export": exported}[name]()
        except FatalError as error:
            said[name] = f"FatalError: {error}"
    return said


def test_no_command_uses_what_is_damaged(copied):
    folder, settings = copied
    root = folder / "work"
    whole, right = contents(root), observed(folder, settings, "status", "export")
    assert not any(said.startswith("FatalError") for said in right.values()), right
    one_of_each = {
        "/".join(key.split("/")[: 2 if key.startswith(("tables/", "annotation/")) else 1]): key for key in whole
    }
    for key in [key for key in one_of_each.values() if not key.startswith("exports/")]:
        data, names = whole[key], ("export",) if key.startswith(("blobs/", "tables/dedup/")) else ("status",)
        for broken in (b"", flipped(data, len(data) // 2, 3)):
            (root / key).write_bytes(broken)
            for name, said in observed(folder, settings, *names).items():
                assert said == right[name] or (said.startswith("FatalError") and key in said), (key, name, said)
        (root / key).write_bytes(data)


@pytest.mark.parametrize("how", ["empty", "flipped", "gone"])
@pytest.mark.parametrize("top", MADE_AGAIN)
def test_repair_and_a_build_make_it_whole_again(copied, top, how):
    folder, settings = copied
    root = folder / "work"
    (root / "claims" / "edit" / "f").mkdir(parents=True)
    (root / "claims" / "edit" / "f" / "0").write_text("{}")
    whole, right = contents(root), made(root)
    hit = [key for key in whole if key.startswith(top) and not key.startswith("quarantine/collect/")]
    for key in hit:
        data = whole[key]
        left = {"empty": b"", "flipped": flipped(data, len(data) // 2, 5), "gone": None}
        (root / key).unlink() if left[how] is None else (root / key).write_bytes(left[how])
    found = check(str(root), repair=True)
    if how != "gone":
        assert {one.key for one in found} >= set(hit)
    assert all(one.removed for one in found)
    run(folder, settings)
    assert made(root) == right
    assert check(str(root)) == []


def test_a_damaged_blob_costs_the_tables_of_the_stage_that_made_it(copied):
    folder, settings = copied
    root, right = folder / "work", made(folder / "work")
    edit = read_outcome(Workspace.open(root)).edits[0]
    for blob in (edit.original_blob, edit.edited_id):
        (root / "blobs" / blob[:2] / blob).write_bytes(b"")
    check(str(root), repair=True)
    gone = right.keys() - made(root).keys()
    assert {key.split("/")[1] for key in gone if key.startswith("tables/")} == {"ingest", "edit"}
    run(folder, settings)
    assert made(root) == right


def test_a_damaged_record_is_written_anew_by_the_same_build(copied):
    folder, settings = copied
    root, right = folder / "work", made(folder / "work")
    for key in right:
        if key.startswith("builds/"):
            (root / key).write_bytes(b"{")
    with pytest.raises(FatalError, match=r"builds/latest.json is damaged .* --repair"):
        read_outcome(Workspace.open(root))
    run(folder, settings)
    assert made(root) == right


def test_what_people_said_and_exports_are_named_and_stay(copied, capsys):
    folder, _ = copied
    root = folder / "work"
    people = [key for key in contents(root) if key.startswith(("annotation/", "exports/", "quarantine/collect/"))]
    hit = [key for key in people if not key.endswith("/manifest.json")]
    for key in hit:
        (root / key).write_bytes(b"torn")
    left = contents(root)
    with pytest.raises(SystemExit) as stopped:
        app(["check", str(root), "--repair"])
    assert stopped.value.code == 1
    said = capsys.readouterr().out
    assert all(f"  {key}  " in said for key in hit)
    assert "guardset collect" in said
    assert "guardset export" in said
    assert contents(root) == left


def test_a_project_that_is_missing_beside_its_votes_is_an_error(copied):
    folder, settings = copied
    (record,) = (folder / "work" / "annotation").rglob("project.json")
    record.unlink()
    for said in observed(folder, settings, "status", "export").values():
        assert "project.json is missing, and people's answers are there" in said
    (found,) = check(str(folder / "work"))
    assert found.key.endswith("project.json")


def test_the_command_says_that_nothing_is_damaged(team, capsys):
    with pytest.raises(SystemExit) as ended:
        app(["check", str(team / "work")])
    assert not ended.value.code
    assert "Nothing is damaged." in capsys.readouterr().out


def test_a_place_that_holds_no_workspace(tmp_path):
    with pytest.raises(FatalError, match="holds no workspace"):
        check(str(tmp_path))


class KilledError(BaseException):
    """The process is gone here."""


def test_a_repair_killed_after_any_file_and_repeated_ends_the_same(copied, monkeypatch):
    folder, settings = copied
    root = folder / "work"
    right = made(root)
    tables = sorted(p for top in ("blobs", "tables", "quarantine") for p in (root / top).rglob("*") if p.is_file())
    delete = LocalStore.delete
    for kept in (0, 2):
        for path in tables[:: len(tables) // 5]:
            path.write_bytes(b"")
        count = iter(range(kept, -1, -1))

        def dying(store: LocalStore, key: str, count: Any = count) -> None:
            if next(count) == 0:
                raise KilledError
            delete(store, key)

        monkeypatch.setattr(LocalStore, "delete", dying)
        with pytest.raises(KilledError):
            check(str(root), repair=True)
        monkeypatch.setattr(LocalStore, "delete", delete)
        assert all(one.removed for one in check(str(root), repair=True))
        run(folder, settings)
        assert check(str(root)) == []
        assert made(root) == right
