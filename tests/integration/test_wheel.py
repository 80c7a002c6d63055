"""The wheel, installed outside the checkout: it holds every file that is read at run time."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from guardset import PACKAGES
from tests.whole_builds import draw_input

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of an environment that holds the wheel. Its other packages are those of this environment, which
    stands behind it on the path; our editable install does not, since a .pth file is read in site folders only."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", ":!tests"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.splitlines()):
        copy = folder / "source" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    uv = [sys.executable, "-m", "uv"]
    run(*uv, "build", "--wheel", "--out-dir", folder / "dist", folder / "source")
    (wheel,) = (folder / "dist").glob("*.whl")
    held = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in held if name.startswith(("tests/", "benchmarks/"))]
    ours = [name for name in listed.stdout.splitlines() if name.split("/")[0] in PACKAGES and (ROOT / name).is_file()]
    assert set(ours) <= set(held)  # recipes, templates and weights as well
    run(sys.executable, "-m", "venv", "--without-pip", folder / "env")
    run(*uv, "pip", "install", "--no-deps", "--python", folder / "env" / "bin" / "python", wheel)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "env" / "bin"


def run(*command: object, cwd: Path | None = None, home: Path | None = None) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_API", "PYTHON", "VIRTUAL_ENV"))}
    if home is not None:
        environment |= {"PREFECT_HOME": str(home), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_init_a_build_and_a_report_run_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    python, guardset = installed / "python", installed / "guardset"
    preset = run(python, "-c", "import micro; print(micro.PRESET)", cwd=tmp_path).strip()
    assert not preset.startswith(str(ROOT))
    run(guardset, "init", "--preset", preset, cwd=tmp_path)
    draw_input(tmp_path / "in", 3)
    build = "build --input in --workspace work --config guardset.yaml --no-publish"
    assert "is recorded in" in run(guardset, *build.split(), cwd=tmp_path, home=tmp_path / "home")
    run(guardset, "report", "--workspace", "work", cwd=tmp_path, home=tmp_path / "home")
    assert "Stages" in (tmp_path / "report.html").read_text()
    run(python, "-m", "micro.miniature", "--help", cwd=tmp_path, home=tmp_path / "home")
    for name in ("classical", "vllm"):
        run(guardset, "init", "--preset", name, "--output", f"{name}.yaml", cwd=tmp_path)
