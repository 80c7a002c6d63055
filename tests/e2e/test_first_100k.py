"""Each command of docs/first-100k.md, in its order, on four drawn images."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from storage.images import encode_png
from tests.configs import write_config
from tests.contract.test_docs_commands import ROOT, shell_lines
from tests.drawing import draw
from tests.label_studio import EXECUTABLE, put_migrated
from tests.s3_server import free_port

pytestmark = [pytest.mark.server, pytest.mark.slow]


def test_every_command_of_the_first_100k_runs(tmp_path, tmp_path_factory):
    put_migrated(tmp_path_factory, tmp_path / "work")
    (tmp_path / "photos").mkdir()
    for seed in range(4):
        (tmp_path / "photos" / f"{seed}.png").write_bytes(encode_png(draw(seed)))
    annotation = {"port": free_port(), "executable": os.path.abspath(EXECUTABLE)}
    write_config(tmp_path / "guardset.yaml", {"annotation": annotation})
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "guardset"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m flows.cli.main "$@"\n')
    command.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    environment.pop("PREFECT_API_URL", None)
    lines = [line for line in shell_lines(ROOT / "docs" / "first-100k.md") if line.startswith("guardset ")]
    assert len(lines) == 11
    try:
        for line in lines:
            for exported in sorted((tmp_path / "work" / "exports").glob("guardset/*")):
                line = line.replace("work/exports/guardset/<version>", str(exported.relative_to(tmp_path)))
            done = subprocess.run(
                ["sh", "-c", line], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
    finally:
        subprocess.run([command, "down", "--workspace", "work"], cwd=tmp_path, env=environment, check=False)
    assert '"event": "shard"' in Path(tmp_path / "build.jsonl").read_text()
