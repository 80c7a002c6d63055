"""docker-compose.yml: valid, pinned, healthy, closed to the outside, and without a variable that nobody reads."""

import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema import Draft7Validator
from prefect.settings import Settings as PrefectSettings
from prefect.settings.legacy import _get_valid_setting_names

from flows.pipeline import ready_stages
from flows.schedules import read_plan
from flows.settings import Settings, read_settings
from policies.loading import load_policy_set
from tests.compose_file import ROOT, compose, environment, fill_in, variables

SERVICES = compose()["services"]
WORKERS, GPU_SERVICES = ("worker", "worker-gpu"), ("vllm", "worker-gpu")
SECRETS = {name: f"test-{name.lower()}" for name, is_needed in variables().items() if is_needed}

# What images read according to their documentation; what their code can be asked is checked against the code below.
DOCUMENTED = {
    "postgres": {"POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"},
    "storage": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"},
    "vllm": {"HF_HOME", "HOME", "VLLM_API_KEY", "VLLM_NO_USAGE_STATS"},
}
COMPOSES_OWN = {"COMPOSE_PROFILES"}
BOTO3 = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"}


def test_the_file_follows_the_compose_specification():
    Draft7Validator(get_builtin_schema("vendor.compose-spec")).validate(compose())


def test_all_the_parts_are_there():
    assert set(SERVICES) == {"postgres", "storage", "prefect", "worker", "worker-gpu", "label-studio", "vllm"}
    by_profile = {name: service.get("profiles", []) for name, service in SERVICES.items()}
    assert {name for name, profiles in by_profile.items() if profiles == ["gpu"]} == {"worker-gpu", "vllm"}
    assert [name for name, profiles in by_profile.items() if profiles == ["cpu"]] == ["worker"]


def test_the_gpu_profile_gives_vllm_and_the_worker_a_gpu_each():
    def gpus(service):
        return SERVICES[service]["deploy"]["resources"]["reservations"]["devices"]

    chosen = [[fill_in(one, {}) for device in gpus(name) for one in device["device_ids"]] for name in GPU_SERVICES]
    assert chosen == [["0"], ["1"]]
    assert all("gpu" in device["capabilities"] for name in GPU_SERVICES for device in gpus(name))
    # But for the profile, the GPU and the memory beside it, it is the same worker.
    plain, with_gpu = ({k: v for k, v in SERVICES[n].items() if k not in ("profiles", "deploy")} for n in WORKERS)
    assert plain == with_gpu


@pytest.mark.parametrize("name", WORKERS)
def test_a_workers_health_is_its_own(name):
    (address,) = re.findall(r"https?://([^/']+)", SERVICES[name]["healthcheck"]["test"][-1])
    assert address == "localhost:8080"  # Prefect's default for PREFECT_RUNNER_SERVER_PORT
    assert PrefectSettings().runner.server.port == 8080
    assert environment(name, SECRETS)["PREFECT_RUNNER_SERVER_ENABLE"] == "true"


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_healthy_limited_and_unprivileged(name):
    service = SERVICES[name]
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+[\w.-]*", service["image"]), service["image"]
    assert service["healthcheck"]["test"][0] == "CMD"
    assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()
    assert str(service["user"]).split(":")[0] not in ("0", "root")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_port_is_open_on_this_machine_only_unless_told_otherwise(name):
    for port in SERVICES[name].get("ports", []):
        assert fill_in(port, {}).startswith("127.0.0.1:")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_that_starts_without_a_password_is_never_open_elsewhere(name):
    secret = "(PASSWORD|SECRET|KEY|TOKEN|AUTH)"
    optional = [v for v, needed in variables().items() if not needed and re.search(secret, v)]
    if any(variable in json.dumps(SERVICES[name]) for variable in optional):
        for port in SERVICES[name].get("ports", []):
            assert fill_in(port, {"BIND_ADDRESS": "0.0.0.0"}).startswith("127.0.0.1:")


def test_services_wait_for_healthy_ones_and_use_named_volumes():
    for service in SERVICES.values():
        for wanted, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "healthcheck" in SERVICES[wanted]
        for volume in service.get("volumes", []):
            source = fill_in(volume, {}).split(":")[0]
            assert source.startswith("./") or source in compose()["volumes"]


def test_nothing_starts_without_secrets_and_each_variable_is_documented():
    documented = re.findall(r"^#?([A-Z0-9_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert {name for name, _ in documented} == set(variables()) | COMPOSES_OWN
    for name, value in documented:
        if variables().get(name):
            assert value == ""  # compose refuses an empty one
    for secret in SECRETS:
        users = [n for n, s in SERVICES.items() if secret in json.dumps(s)]
        for user in users:
            with pytest.raises(KeyError, match=secret):
                environment(user, {k: v for k, v in SECRETS.items() if k != secret})


def _label_studio_reads(name: str) -> bool:
    """Whether Label Studio's own code names it, with or without its prefix."""
    found = list((ROOT / ".venv-label-studio").glob("lib/python*/site-packages/label_studio"))
    if not found:
        pytest.skip("Label Studio is not installed: run `make label-studio`")
    wanted = {name, name.removeprefix("LABEL_STUDIO_")}
    quoted = re.compile("['\"](?:" + "|".join(map(re.escape, wanted)) + ")['\"]")
    places = [path for part in ("core", "io_storages", "users", "server.py") for path in _python_files(found[0] / part)]
    return any(quoted.search(path.read_text(encoding="utf-8")) for path in places)


def _python_files(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


@pytest.mark.parametrize("name", SERVICES)
def test_each_variable_is_one_that_the_code_or_the_image_reads(name):
    prefect = _get_valid_setting_names(PrefectSettings)
    unknown = set(environment(name, SECRETS)) - DOCUMENTED.get(name, set())
    if name in ("prefect", *WORKERS):
        unknown -= prefect
    if name in (*WORKERS, "label-studio"):
        unknown -= BOTO3
    if name in WORKERS:
        unknown -= {"HF_HOME"}  # huggingface_hub's
        _, settings = read_plan(ROOT / "deploy" / "schedules.yaml")
        unknown -= {settings.annotation.token_env}
        unknown -= set(re.findall(r"api_key_env: (\w+)", (ROOT / "deploy" / "guardset.yaml").read_text()))
    if name == "label-studio":
        unknown = {variable for variable in unknown if not _label_studio_reads(variable)}
    assert unknown == set()


def test_a_store_of_ones_own_reaches_everybody_who_reads_from_it():
    own = SECRETS | {"AWS_ENDPOINT_URL": "https://s3.test", "S3_ENDPOINT": "https://s3.test", "AWS_REGION": "here"}
    for name in WORKERS:
        assert environment(name, own)["AWS_ENDPOINT_URL"] == "https://s3.test"
        assert environment(name, own)["AWS_REGION"] == "here"
        assert environment(name, SECRETS)["AWS_ENDPOINT_URL"] == "http://storage:8333"
    assert environment("label-studio", own)["S3_ENDPOINT"] == "https://s3.test"
    assert environment("label-studio", SECRETS)["S3_ENDPOINT"] == "http://storage:8333"


def test_the_default_profile_starts_a_worker():
    (chosen,) = re.findall(r"^COMPOSE_PROFILES=(\w+)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    assert SERVICES["worker"]["profiles"] == [chosen]


def test_the_label_studio_client_and_server_have_one_token():
    server, worker = environment("label-studio", SECRETS), environment("worker", SECRETS)
    assert server["LABEL_STUDIO_USER_TOKEN"] == worker["LABEL_STUDIO_API_KEY"]


def test_the_workers_image_holds_every_room_and_prefect_yaml_names_real_flows():
    import tomllib

    copied = set(re.findall(r"^COPY (\w+) \1$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert copied == {package.split(".")[0] for package in packages}
    import flows.serve

    for deployment in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]:
        place, flow_name = deployment["entrypoint"].split(":")
        assert ROOT / place == Path(flows.serve.__file__)
        parameters = getattr(flows.serve, flow_name).validate_parameters(deployment["parameters"])
        assert parameters["workspace"].startswith("s3://")
        if flow_name == "scheduled_build":  # the first one finds no settings in the workspace
            assert runs_anywhere(parameters["settings"])


def runs_anywhere(settings: Settings) -> bool:
    """Whether a build needs neither a GPU nor a server but Label Studio."""
    policies = load_policy_set(settings.policies)
    needs = {stage.needs for stage in ready_stages(settings, policies).values()}
    return needs == {"nothing"} and settings.annotation.url is not None


def test_the_workers_first_build_needs_what_the_worker_has():
    devices = SERVICES["worker"]["deploy"]["resources"].get("reservations")  # of the profile cpu, the default
    _, settings = read_plan(ROOT / "deploy" / "schedules.yaml")
    assert devices is None
    assert runs_anywhere(settings)
    assert settings.editing.locate.manifest == ROOT / "deploy" / "regions.json"  # mounted with the config


def test_what_the_workers_config_offers_in_comments_can_be_used():
    lines = (ROOT / "deploy" / "guardset.yaml").read_text().splitlines()
    shown = [line[2:] for line in lines if re.match(r"# (  |recaption:)", line)]
    offered = read_settings("\n".join(["editing:", *shown]), "deploy/guardset.yaml", ROOT)
    needs = {name: stage.needs for name, stage in ready_stages(offered, load_policy_set()).items()}
    assert (needs["locate"], needs["certify"], needs["edit"], needs["rewrite"]) == ("server", "server", "gpu", "server")


def test_the_specification_is_the_published_one():
    license_text = (
        files("check_jsonschema.builtin_schemas.vendor.licenses").joinpath("LICENSE.compose-spec").read_text()
    )
    assert "Apache License" in license_text
