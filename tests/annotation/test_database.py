"""The local server's database: its URL. tests/integration/test_compose_services.py starts one on PostgreSQL."""

import pytest

from annotation import server
from annotation.database import check_answers, parse_url, place_of, settings_of
from storage.errors import FatalError
from tests.s3_server import free_port

URL = "postgresql://ann:p%40ss@db.example.org:6543/labels"


def test_the_parts_of_a_url():
    parts = parse_url(URL)
    assert (parts.user, parts.password, parts.host, parts.port, parts.name) == (
        "ann", "p@ss", "db.example.org", 6543, "labels",
    )  # fmt: skip
    assert parse_url("postgres://ann@host/name").port == 5432
    assert "p@ss" not in repr(parts) + parts.place


@pytest.mark.parametrize(
    "url",
    ["mysql://a:b@host/name", "postgresql://host/name", "postgresql://a:secret@host", "postgresql://a@host:x/name"],
)
def test_a_url_that_is_none_is_a_plain_sentence(url):
    with pytest.raises(FatalError, match=r"must have the form postgresql://") as error:
        parse_url(url)
    assert "secret" not in str(error.value)


def test_one_database_is_one_place_whoever_asks():
    assert place_of(URL) == place_of("postgres://ben:other@db.example.org:6543/labels") != place_of("")


def test_what_label_studio_is_told(tmp_path):
    assert settings_of("", tmp_path)["DJANGO_DB"] == "sqlite"
    assert settings_of(URL, tmp_path)["POSTGRE_PASSWORD"] == "p@ss"


def test_a_database_that_does_not_answer_is_a_plain_sentence(tmp_path):
    url = f"postgresql://ann:secret@127.0.0.1:{free_port()}/labels"
    with pytest.raises(FatalError, match=r"No PostgreSQL answers at 127\.0\.0\.1"):
        server.start(tmp_path, port=1, executable="/nowhere", database=url)
    check_answers("")  # SQLite has nobody to answer


def test_a_workspace_stays_with_its_database(tmp_path):
    folder = server.server_folder(tmp_path)
    folder.mkdir()
    server._write(folder, server.Server("http://127.0.0.1:1", "a@x", "secret", "0" * 40, 0))
    with pytest.raises(FatalError, match=r"keeps its data in SQLite, not in database labels at db\.example\.org:6543"):
        server.start(tmp_path, port=1, executable="/nowhere", database=URL)
