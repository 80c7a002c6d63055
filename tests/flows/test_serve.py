"""The schedules file, and the deployments made from it."""

from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

from flows.pipeline import ready_stages
from flows.schedules import read_plan
from flows.serve import _again, deployments, keep_changes, scheduled_build, scheduled_collect
from flows.settings import Settings
from micro.preset import preset
from micro.world import WORLD
from storage.errors import FatalError
from tests.configs import write_config

pytestmark = pytest.mark.usefixtures("prefect_harness")


def write(tmp_path, text: str):
    path = tmp_path / "schedules.yaml"
    path.write_text(text)
    return path


PLAN = """
workspace: s3://bucket/work
config: guardset.yaml
build: {cron: "0 2 * * *", source: s3://bucket/photos}
"""


def test_a_plan_becomes_three_deployments_with_their_schedules(tmp_path):
    write_config(tmp_path / "guardset.yaml", {"ingest": {"licence": "CC0-1.0"}})
    build, collect, export = deployments(*read_plan(write(tmp_path, PLAN)))
    assert [d.name for d in (build, collect, export)] == ["build", "collect", "export"]
    assert [d.schedules[0].schedule.cron for d in (build, collect, export)] == ["0 2 * * *", "*/5 * * * *", "0 4 * * 0"]
    assert build.parameters["source"] == "s3://bucket/photos"
    assert build.parameters["settings"]["ingest"] == {"licence": "CC0-1.0"}  # no default
    assert Settings.model_validate(build.parameters["settings"]) == preset({"ingest": {"licence": "CC0-1.0"}})
    assert build.parameters["workspace"] == collect.parameters["workspace"] == "s3://bucket/work"
    assert build.concurrency_limit == 1
    assert scheduled_build.parameters.properties.keys() >= {"source", "workspace", "settings", "publish"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("workspace: w", "build: is missing"),
        ("workspace: w\nbuild: {source: s, cron: '* * * * *', every_s: 3}", "give cron or every_s"),
        (
            "workspace: w\nbuild: {source: s, when: never}",
            "build.when: unknown key `when`; known here: cron, every_s",
        ),
        (": :", "not valid YAML"),
        (PLAN, "Cannot read the config"),
    ],
)
def test_a_plan_that_cannot_be_used_is_a_plain_sentence(tmp_path, text, sentence):
    with pytest.raises(FatalError, match=sentence):
        read_plan(write(tmp_path, text))


def test_a_stage_takes_a_gpu_or_a_place_at_a_server():
    server = {"base_url": "http://127.0.0.1:1/v1"}
    settings = preset({"recaption": {"caption": {"model": "m", "server": server}}})
    found = {name: stage.needs for name, stage in ready_stages(settings, WORLD).items()}
    assert found["caption"] == found["caption_edited"] == "server"
    assert found["edit"] == found["locate"] == found["second_look"] == "gpu"
    assert found["ingest"] == "nothing"


def test_a_failed_run_leaves_why_and_the_command_that_goes_on(tmp_path):
    gone = tmp_path / "gone"
    with pytest.raises(FatalError, match="does not exist"):
        scheduled_build(str(gone), str(tmp_path / "ws"), preset(), publish=False)
    with get_client(sync_client=True) as client:
        key = ArtifactFilterKey(any_=["guardset-failure"])
        (left,) = client.read_artifacts(artifact_filter=ArtifactFilter(key=key))
    assert f"The input folder {gone} does not exist." in left.data
    assert f"guardset build --input {gone} --workspace {tmp_path / 'ws'} --no-publish" in left.data


def test_a_scheduled_collect_before_the_first_publish_says_nothing_yet(tmp_path):
    assert scheduled_collect(str(tmp_path / "never-built")) == 0
    assert scheduled_collect(str(tmp_path / "unpublished"), preset()) == 0


def test_a_failed_run_of_a_deployment_is_tried_again_with_its_own_parameters(monkeypatch):
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__NAME", "build")
    monkeypatch.setenv("PREFECT__RUNTIME__FLOW_RUN__ID", "0d9c")
    assert _again(["guardset", "build"]) == "prefect flow-run retry 0d9c"
    monkeypatch.delenv("PREFECT__RUNTIME__DEPLOYMENT__NAME")
    assert _again(["guardset", "build", "--input", "my photos"]) == "guardset build --input 'my photos'"


def registered(tmp_path, text: str) -> tuple[dict[str, Any], list[str]]:
    """The deployments at the server after a `serve` of these schedules, and what gave way."""
    plan, settings = read_plan(write(tmp_path, text))
    gave_way = []
    for one in deployments(plan, settings):
        gave_way += keep_changes(one, plan.owned(str(one.name)))
        one.apply(work_pool_name=None)
    with get_client(sync_client=True) as client:
        return {
            n: client.read_deployment_by_name(f"guardset-scheduled-{n}/{n}") for n in ("build", "collect")
        }, gave_way


def test_what_people_changed_in_prefect_stays_unless_the_file_says_it(tmp_path):
    write_config(tmp_path / "guardset.yaml")
    found, gave_way = registered(tmp_path, PLAN)
    assert gave_way == []
    with get_client(sync_client=True) as client:
        for name, cron in (("build", "0 5 * * *"), ("collect", "0 6 * * *")):
            (schedule,) = found[name].schedules
            client._client.patch(
                f"/deployments/{found[name].id}/schedules/{schedule.id}",
                json={"schedule": {"cron": cron, "timezone": "UTC"}, "active": name == "build"},
            ).raise_for_status()
        parameters = found["build"].parameters | {"source": "s3://other/photos", "publish": False}
        client._client.patch(f"/deployments/{found['build'].id}", json={"parameters": parameters}).raise_for_status()
    found, gave_way = registered(tmp_path, PLAN)
    # The file says when to build and from where; it says nothing of collecting, nor of publishing.
    assert [one.schedule.cron for name in ("build", "collect") for one in found[name].schedules] == [
        "0 2 * * *",
        "0 6 * * *",
    ]
    assert [one.active for one in found["collect"].schedules] == [False]
    assert found["build"].parameters["source"] == "s3://bucket/photos"
    assert found["build"].parameters["publish"] is False
    assert gave_way == [
        "build runs 0 2 * * *, as the file says",
        "source of build is 's3://bucket/photos', as the file says",
    ]
