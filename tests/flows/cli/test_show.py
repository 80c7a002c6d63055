"""One image's way through a build, in the terminal."""

import re

import pytest

from flows.cli.main import app
from guard.export.history_page import Step, history_page
from storage.errors import FatalError
from storage.images import encode_png
from tests.drawing import draw
from tests.flows.finished_build import finish


@pytest.fixture
def built(workspace):
    finish(workspace)
    return workspace.store.root


def shown(capsys, name: str, root: str) -> str:
    app(["show", name, "--workspace", root], result_action="return_value")
    return " ".join(capsys.readouterr().out.split())


def test_an_image_is_followed_from_its_file_to_its_labels(built, capsys):
    said = shown(capsys, "knife.png", built)
    for part in (
        "knife.png: 8 x 8, PNG, licence CC0-1.0",
        "blade at (0, 0, 4, 4) (box, score 0.90)",
        "remove of blade, candidate 1: accepted",
        "sham of blade, candidate 1: accepted",
        "L1, original:",
    ):
        assert part in said
    assert "heart" not in said


def test_the_first_digits_of_an_edited_images_id_name_its_original(built, capsys):
    assert "love.png" in shown(capsys, "remove-love", built)


def test_it_is_written_as_a_page_with_blurred_pictures_and_nothing_is_overwritten(built, workspace, capsys, tmp_path):
    blob = workspace.blobs.put(encode_png(draw(1)))
    steps = [Step("dedup", "what it is for", ("<b>odd</b>",), (("knife.png", blob),))]
    page = history_page("knife.png", steps, workspace.blobs)
    assert page.count('class="veil frame"') == 1
    assert "&lt;b&gt;odd" in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(FileExistsError):
        app(
            ["show", "odd.png", "--workspace", built, "--to", str(tmp_path / "mine.html")], result_action="return_value"
        )
    assert (tmp_path / "mine.html").read_text() == "mine"
    app(["show", "odd.png", "--workspace", built, "--to", str(tmp_path / "new.html")], result_action="return_value")
    assert "exact_duplicate" in (tmp_path / "new.html").read_text()


def test_a_refused_file_says_why_and_what_to_do(built, capsys):
    said = shown(capsys, "odd.png", built)
    assert "refused, exact_duplicate" in said
    assert "to do:" in said


def test_a_name_of_no_image_or_of_several_is_a_sentence(built):
    with pytest.raises(FatalError, match=r"has no image nothing\.png"):
        app(["show", "nothing.png", "--workspace", built], result_action="return_value")
    with pytest.raises(FatalError, match="3 images are called"):
        app(["show", "", "--workspace", built], result_action="return_value")
