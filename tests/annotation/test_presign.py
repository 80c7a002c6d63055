"""How the server is told to show a bucket's images."""

import pytest

from annotation.adjudicate import disputed, publish_adjudications
from annotation.agreement import labels
from annotation.pair import PairItem, publish_pairs
from annotation.publish import PublishItem, publish
from annotation.tasks import ProjectOptions
from storage.store import LocalStore
from storage.workspace import Workspace
from tests.annotation.fake_studio import FakeStudio

ITEMS = [PublishItem("image0", "00blob")]


class FolderAsBucket(LocalStore):
    """A folder that says that it is a bucket: what is sent to the server depends on the name only."""

    root = "s3://bucket/some/prefix"


@pytest.fixture
def bucket(tmp_path):
    return Workspace(FolderAsBucket(tmp_path))


def told(client):
    return [(s.bucket, s.prefix, s.use_blob_urls, s.presign, s.presign_ttl) for s in client.storages]


@pytest.mark.parametrize("presign", [False, True])
def test_images_pass_through_the_server_unless_links_are_asked_for(bucket, policies, vote, presign):
    options = ProjectOptions("test", presign=presign)
    verdicts, pairs, disputes = FakeStudio(), FakeStudio(), FakeStudio()
    publish(verdicts, bucket, ITEMS, policies, options)
    publish_pairs(pairs, bucket, [PairItem("e", "00blob", "01blob", "knife")], policies, options)
    votes = [vote("image0", "L2", v, f"{n}@x") for n, v in enumerate(("safe", "unsafe", "safe"))]
    cells = labels(["image0"], policies, votes, {})
    publish_adjudications(disputes, bucket, policies, disputed(cells), votes, options)
    for client in (verdicts, pairs, disputes):
        assert told(client) == [("bucket", "some/prefix/blobs", True, presign, 5)]


def test_a_changed_setting_changes_the_project_that_is_there(bucket, policies):
    client = FakeStudio()
    for presign in (False, True, True, False):
        publish(client, bucket, ITEMS, policies, ProjectOptions("test", presign=presign))
        assert told(client) == [("bucket", "some/prefix/blobs", True, presign, 5)]
