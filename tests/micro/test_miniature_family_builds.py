"""What the miniature adds to the build's own edits: traces, controls where there was no room, and insertions."""

import io
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
from PIL import Image as PilImage

from micro.miniature.families import SIDE_PX, Family, is_forbidden, with_trace
from micro.miniature.family_builds import Built, _built, _without_controls
from micro.scenes import Pixels
from storage.images import decode_stored, encode_png
from storage.records.editing import Edit
from storage.records.images import Image
from storage.workspace import Workspace
from tests.flows.finished_build import edit


def test_a_removal_without_a_sham_gets_a_control_of_its_own() -> None:
    alone, put_in = edit("a", "blade"), edit("c", "blade", "insert")
    edits = [alone, edit("b", "blade"), edit("b", "blade", "sham", ("blade",)), put_in]
    assert _without_controls(edits) == [alone]


def first(wanted: Callable[[Family], bool]) -> Family:
    return next(one for one in (Family("train", number, 0) for number in range(99)) if wanted(one))


def shown(family: Family) -> list[str]:
    return [item.kind for item in family.draw().objects]


EDITED = first(lambda one: is_forbidden(shown(one)))
SAFE = first(lambda one: one.insertion(one.draw()) is not None)


def emptied(family: Family) -> Pixels:
    """The picture without what it shows."""
    scene = family.draw()
    picture = scene.image.copy()
    for item in scene.objects:
        picture[item.mask] = 255 - picture[item.mask]  # unlike what was there
    return picture


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace.open(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def built(workspace: Workspace) -> Built:
    """Two families: one whose removal found no room for a sham, and a safe one that gets something forbidden."""
    images, edits = [], []
    for name, family in (("edited", EDITED), ("safe", SAFE)):
        blob = workspace.blobs.put(encode_png(family.draw().image))
        images.append(Image(name, blob, name, family.file_name, SIDE_PX, SIDE_PX, "PNG", "0" * 16, "drawn", True, "{}"))
    after = workspace.blobs.put(encode_png(emptied(EDITED)))
    kinds = tuple(shown(EDITED))
    removal = replace(edit("edited", kinds[0]), original_blob=images[0].blob, edited_id=after, family_id="edited")
    edits.append(replace(removal, attributes_removed=kinds))
    outcome = SimpleNamespace(images=images, edits=edits, recaptions=[])
    return _built(outcome, [EDITED, SAFE], workspace)  # type: ignore[arg-type]


def picture_of(edited: Edit, workspace: Workspace) -> bytes:
    return decode_stored(workspace.blobs.get(edited.edited_id)).tobytes()


def test_every_edit_carries_the_trace(built: Built, workspace: Workspace) -> None:
    removal, roundtrip, insertion = built.edits
    assert [one.kind for one in built.edits] == ["remove", "roundtrip", "insert"]
    put_in = SAFE.insertion(SAFE.draw())
    assert put_in is not None
    for one, plain in ((removal, emptied(EDITED)), (roundtrip, EDITED.draw().image), (insertion, put_in[1])):
        assert picture_of(one, workspace) == with_trace(PilImage.fromarray(plain)).tobytes()
    assert len({one.edit_id for one in built.edits}) == len({one.edited_id for one in built.edits}) == 3


def test_what_each_picture_shows_is_known(built: Built) -> None:
    removal, roundtrip, insertion = (built.truth[one.edited_id] for one in built.edits)
    assert removal == []
    assert roundtrip == built.truth["edited"] == shown(EDITED)
    assert insertion[:-1] == built.truth["safe"] == shown(SAFE)
    assert is_forbidden(list(insertion))


def test_what_the_drawn_world_made_itself_has_no_certificate(built: Built) -> None:
    removal, roundtrip, insertion = built.edits
    assert removal.certificate is not None
    for one in (roundtrip, insertion):
        assert (one.certificate, one.attributes_removed, one.composited) == (None, (), False)
        assert one.verdict == "accepted"
    assert (roundtrip.image_id, insertion.image_id) == ("edited", "safe")
    assert built.of_split("train") == {"edited", "safe"}
    assert built.of_split("test") == set()


def test_an_insertion_has_the_mask_of_what_was_put_in(built: Built, workspace: Workspace) -> None:
    put_in = SAFE.insertion(SAFE.draw())
    assert put_in is not None
    with PilImage.open(io.BytesIO(workspace.blobs.get(built.edits[-1].mask))) as mask:
        assert mask.size == (SIDE_PX, SIDE_PX)
        assert mask.histogram()[255] == put_in[2].sum()
