"""Opting out: what is kept from whom, and that the real server's queue then passes it over."""

from types import SimpleNamespace as Row

import pytest

from annotation.collect import collect
from annotation.opt_out import check_people, keep_from, withheld
from annotation.publish import publish, published
from annotation.tasks import ProjectOptions
from micro.world import VOCABULARY
from storage.errors import FatalError
from tests.annotation.people import label, person, some_images, verdicts

SHOWN = {"a": ("blade", "plant"), "b": ("heart",), "c": ()}


@pytest.mark.parametrize(
    ("unwanted", "kept"), [(["blade"], ["a"]), (["blade", "heart"], ["a", "b"]), (["dice"], []), ([], [])]
)
def test_what_is_kept_from_whom(unwanted, kept):
    assert withheld({"ann@x": unwanted}, SHOWN) == {"ann@x": kept}


class FakeStudio:
    def __init__(self):
        self.made, self.fail_at = [], None
        self.users = Row(list=lambda: [Row(id=4, email="ann@x")])
        self.annotations = Row(create=self._create)

    def _create(self, **fields):
        if self.fail_at == len(self.made):
            raise KeyboardInterrupt
        self.made.append((fields["id"], fields["completed_by"], fields["was_cancelled"], fields["unique_id"]))


def test_a_kind_that_does_not_exist_is_a_mistake_in_the_settings():
    with pytest.raises(FatalError, match="opt_outs names 'knives', which the vocabulary does not have"):
        check_people(FakeStudio(), {"ann@x": ("knives",)}, VOCABULARY)


def test_nobody_is_shown_anything_before_their_account_is_known():
    assert check_people(FakeStudio(), {}, VOCABULARY) == {}
    assert check_people(FakeStudio(), {"ann@x": ["blade"]}, VOCABULARY) == {"ann@x": 4}
    with pytest.raises(FatalError, match="ben@x, who has no account"):
        check_people(FakeStudio(), {"ann@x": ["blade"], "ben@x": ["blade"]}, VOCABULARY)


def test_each_skip_once_and_the_same_again_after_a_crash(workspace):
    client, tasks = FakeStudio(), {"a": 1, "b": 2, "c": 3}
    arguments = (client, workspace, ("key", tasks), {"ann@x": ["a", "b", "elsewhere"]}, {"ann@x": 4})
    client.fail_at = 1
    with pytest.raises(KeyboardInterrupt):
        keep_from(*arguments)
    client.fail_at = None
    assert keep_from(*arguments) == 2
    assert keep_from(*arguments) == 0
    assert [made[:3] for made in client.made] == [(1, 4, True), (1, 4, True), (2, 4, True)]
    assert client.made[0] == client.made[1]  # with the same unique id, by which the server refuses the second


@pytest.mark.server
def test_the_queue_gives_the_image_to_others_only(studio, own_policies):
    items, truth = some_images(studio.workspace, 4)
    publish(studio.client, studio.workspace, items, own_policies, ProjectOptions("test", overlap=1))
    project = published(studio.workspace, own_policies)
    ann, ben = person(studio, "ann"), person(studio, "ben")
    opt_outs = {"ann@simulated.invalid": ["blade"]}
    people = check_people(studio.client, opt_outs, VOCABULARY)
    keep = withheld(opt_outs, truth)
    arguments = (studio.client, studio.workspace, (project.project_key, project.tasks), keep, people)
    assert keep_from(*arguments) == 2  # the first two of four show a blade
    (
        studio.folder / "annotation" / project.project_key / "withheld.json"
    ).unlink()  # as if killed before it was written
    keep_from(*arguments)

    def queue(client):
        """All the tasks that a person is given, one after the other."""
        given = []
        while True:
            path = f"api/projects/{project.project_id}/next"
            answer = client._client_wrapper.httpx_client.request(path, method="GET")
            if answer.status_code == 404:
                return given
            given.append(answer.json()["id"])
            label(client, given[-1], verdicts(own_policies))

    with_blade = {project.tasks[item.image_id] for item in items[:2]}
    assert set(queue(ann)) == set(project.tasks.values()) - with_blade
    assert set(queue(ben)) == with_blade  # one person was asked for, and nobody else had these
    result = collect(studio.client, studio.workspace, own_policies)
    assert (result.skipped, len(result.votes)) == (2, 4 * 4)
