"""What import-linter cannot see: no room names the drawn world, and the wheel holds every file that is read."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import guardset

ROOT = Path(__file__).resolve().parents[2]
ROOMS = [name for name in guardset.PACKAGES if name != "micro"]
_NAMED = re.compile(r"(?<![a-z_])micro(?![a-z_])", re.IGNORECASE)


def files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", *ROOMS], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.splitlines() if (ROOT / name).is_file()]


def test_no_room_names_the_drawn_world():
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if _NAMED.search(line)
    ]
    assert found == []


def test_every_package_with_code_is_in_the_wheel():
    packages = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    holding = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for name in guardset.PACKAGES
        for path in (ROOT / name).rglob("*.py")
    }
    assert holding == packages
    assert {name.split(".")[0] for name in packages} == set(guardset.PACKAGES)


def test_each_package_is_our_own():
    assert guardset.shadowed() == []


def test_a_package_of_the_same_name_is_told_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage" / "__init__.py").write_text("")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import guardset; guardset.main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"storage: {tmp_path / 'storage'}" in done.stderr
    assert "Traceback" not in done.stderr
