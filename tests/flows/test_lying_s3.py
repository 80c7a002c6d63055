"""An S3 that lies in the middle of a build whose input and workspace lie there: the next build is as if it had not."""

import json

import pytest
import stamina
import yaml

from flows.build import build
from flows.cli.presets import preset_text
from flows.settings import BLANK, load_settings
from storage import s3
from storage.errors import FatalError, TransientError
from storage.s3 import S3Store
from tests.lying_s3 import lying_s3
from tests.photographs import LABEL_MAP, POLICIES, collect, regions_for

pytestmark = pytest.mark.server
FEW = ("rocket.jpg", "coffee.jpg")
LIES = (
    ("page", "GET", "/photos/"),
    ("other bytes", "GET", "/photos/"),
    ("404 page", "GET", "/photos/"),
    ("404 page", "GET", "/tables/"),
    ("empty", "PUT", "/tables/"),
    ("empty", "GET", "list-type=2"),
)


@pytest.fixture
def settings(tmp_path):
    raw = yaml.safe_load(preset_text("classical").replace(BLANK, "blank"))
    raw["policies"], raw["ingest"]["licence"] = str(POLICIES), "mixed"
    raw["editing"]["locate"] |= {"manifest": "regions.json", "label_map": LABEL_MAP}
    raw["editing"]["edit"]["size_px"] = 256
    raw["recaption"] = None
    (tmp_path / "guardset.yaml").write_text(yaml.safe_dump({k: v for k, v in raw.items() if v is not None}))
    (tmp_path / "regions.json").write_text(json.dumps(regions_for(FEW)))
    return load_settings(tmp_path / "guardset.yaml")


def files(root):
    """What a build made, but for the seconds that it took."""
    store = S3Store(root)
    names = [entry.key for entry in store.entries() if not entry.key.startswith(("usage/", "builds/", "guardset"))]
    return {name: store.read(name) for name in names}


def test_a_build_beside_a_lying_s3_ends_as_the_undisturbed_one(settings, tmp_path, s3_bucket, monkeypatch):
    collect(tmp_path / "photos")
    monkeypatch.setattr(s3, "_ATTEMPTS", 0)
    monkeypatch.setattr("flows.engine.job._FIRST_WAIT_S", 0.0)
    stamina.set_testing(True, attempts=2)
    with lying_s3() as liar:
        place, source = f"s3://{s3_bucket}/{tmp_path.name}", f"s3://{s3_bucket}/{tmp_path.name}/photos"
        for name in FEW:
            S3Store(source).write(name, (tmp_path / "photos" / name).read_bytes())
        build(settings, source, f"{place}/calm")
        calm = files(f"{place}/calm")
        assert any(name.startswith("tables/certify/") for name in calm)
        for number, (deed, method, part) in enumerate(LIES):
            root = f"{place}/{number}"
            liar.deed, liar.lies = deed, 0
            liar.meant = lambda m, path, wanted=(method, part): m == wanted[0] and wanted[1] in path
            with pytest.raises((TransientError, FatalError)):
                build(settings, source, root)
            assert liar.lies, (deed, part)
            liar.deed = ""
            build(settings, source, root)
            assert files(root) == calm, (deed, part)
    stamina.set_testing(False)
