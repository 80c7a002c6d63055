"""What of a model's settings decides its answers, and what it takes to run it."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from annotation.settings import AnnotationSettings
from models.settings import CLASSICAL, ChatSettings, EndpointSettings, PictureSettings, ServerSettings
from storage.errors import FatalError
from storage.validation import faults_of

URL = "http://127.0.0.1:1/v1"


def served(model: str = "m", revision: str | None = None, batch_size: int = 8, **server: Any) -> ChatSettings:
    settings = ServerSettings.model_validate({"base_url": URL} | server)
    return ChatSettings(model=model, revision=revision, batch_size=batch_size, server=settings)


@pytest.mark.parametrize(
    "change",
    [
        {"base_url": "https://elsewhere.test/v1"},
        {"api_key_env": "A_KEY"},
        {"max_in_flight": 3},
        {"timeout_s": 5.0},
        {"attempts": 1},
        {"images_through": "s3://bucket/prefix"},
        {"link_expires_s": 60},
        {"batch_size": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_how_a_server_is_asked_changes_no_answer(change: dict[str, Any]) -> None:
    assert served(**change).decided_by() == served().decided_by()


@pytest.mark.parametrize("change", [{"model": "n"}, {"revision": "2"}, {"max_pixels": 100}])
def test_the_model_and_the_pixels_that_it_sees_do(change: dict[str, Any]) -> None:
    assert served(**change).decided_by() != served().decided_by()


def test_a_served_models_name_may_look_like_a_path_that_is_not_here() -> None:
    # vLLM calls a model by the path it was started with, which is one of its own machine.
    assert served("/models/qwen").decided_by()["model"] == "/models/qwen@"
    assert served("./qwen", revision="3").decided_by()["model"] == "./qwen@3"
    with pytest.raises(FatalError, match="does not exist"):
        ChatSettings(model="/models/qwen").decided_by()


def test_a_folder_counts_by_its_content_and_more_can_be_said(tmp_path: Path) -> None:
    def decided(name: str, content: str) -> dict[str, Any]:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(content)
        return ChatSettings(model=str(tmp_path / name)).decided_by(prompt="Describe.")

    one, same, other = decided("a", "{}"), decided("b", "{}"), decided("c", "[]")
    assert one == same != other
    assert one["prompt"] == "Describe."


def test_what_a_chat_model_takes() -> None:
    assert (ChatSettings(model="m").needs, ChatSettings(model="m", batch_size=3).rows_at_once) == ("gpu", 12)
    assert (served().needs, served(batch_size=3).rows_at_once) == ("server", None)


def painter(**changes: Any) -> PictureSettings:
    return PictureSettings.model_validate({"model": "hub/painter"} | changes)


def endpoint(**changes: Any) -> PictureSettings:
    return painter(endpoint=EndpointSettings.model_validate({"base_url": URL} | changes), size_px=1024)


def test_what_an_editor_takes() -> None:
    assert painter().needs == "gpu"
    assert endpoint().needs == "server"
    assert [painter(model=method).needs for method in CLASSICAL] == ["nothing", "nothing"]


@pytest.mark.parametrize("change", [{"batch_size": 4}, {"time_limit_s": None}])
def test_how_a_pipeline_is_called_changes_no_pixel(change: dict[str, Any]) -> None:
    assert painter(**change).decided_by() == painter().decided_by()


@pytest.mark.parametrize(
    "change",
    [{"model": "hub/other"}, {"revision": "2"}, {"size_px": 64}, {"steps": 4}, {"strength": 0.5},
     {"prefill": "biharmonic"}, {"guidance_scale": 2.0}, {"image_guidance_scale": 2.0}, {"negative_prompt": "x"},
     {"dtype": "float16"}],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_what_is_painted_does(change: dict[str, Any]) -> None:
    assert painter(**change).decided_by() != painter().decided_by()


def test_an_endpoints_address_key_and_patience_change_no_pixel_and_its_form_does() -> None:
    how = {"base_url": "https://x.test/v1", "api_key_env": "K", "max_in_flight": 1, "attempts": 2, "timeout_s": 9}
    assert endpoint(**how).decided_by() == endpoint().decided_by()
    told = [endpoint(), endpoint(flavour="sglang"), endpoint(extra={"quality": "low"}), painter(size_px=1024)]
    decided = [settings.decided_by() for settings in told]
    assert all(one != other for i, one in enumerate(decided) for other in decided[:i])
    assert (
        painter(model="/models/here", endpoint=EndpointSettings(base_url=URL)).decided_by()["model"] == "/models/here@"
    )


@pytest.mark.parametrize(
    ("flavour", "unknown"),
    [("openai", "steps"), ("openai", "negative_prompt"), ("sglang", "strength"), ("vllm-omni", "image_guidance_scale")],
)
def test_what_an_endpoint_would_ignore_is_not_taken(flavour: str, unknown: str) -> None:
    server = {"base_url": URL, "flavour": flavour}
    value = "x" if unknown == "negative_prompt" else 1
    with pytest.raises(ValidationError, match=f"flavour {flavour} takes no {unknown}"):
        painter(endpoint=server, size_px=64, **{unknown: value})


def test_only_a_pipeline_has_a_codec() -> None:
    assert [s.has_codec for s in (painter(), endpoint(), painter(model="opencv-telea"))] == [True, False, False]


def test_a_classical_method_is_no_folder() -> None:
    assert painter(model="opencv-telea").decided_by()["model"] == "opencv-telea@"


@pytest.mark.parametrize(
    "address", ["localhost:8000/v1", "host/v1", "", "http://", "http:///v1", "file:///etc", "http://h:x"]
)
@pytest.mark.parametrize("settings", [ServerSettings, EndpointSettings])
def test_an_address_names_a_host_and_how_it_is_reached(settings: Any, address: str) -> None:
    with pytest.raises(ValidationError, match="an address begins with http:// or https://"):
        settings(base_url=address)
    assert settings(base_url="http://[::1]:80/v1").base_url == "http://[::1]:80/v1"


@pytest.mark.parametrize("model", ["opencv-foo", "opencv-tela", "OpenCV-Telea"])
def test_an_unknown_method_is_answered_with_those_that_there_are(model: str) -> None:
    with pytest.raises(ValidationError, match=r"did you mean opencv-telea\? .*opencv-navier-stokes"):
        painter(model=model)
    assert painter(model="opencv/on-the-hub").is_here


def test_a_method_that_runs_here_takes_no_endpoint() -> None:
    with pytest.raises(ValidationError, match="take out the endpoint"):
        painter(model="opencv-telea", endpoint=EndpointSettings(base_url=URL), size_px=64)


def test_a_model_may_be_below_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ChatSettings(model="~/vlm").model == painter(model="~/vlm").model == str(tmp_path / "vlm")


@pytest.mark.parametrize("model", ["models/a/b", "host:8000", "a name", "owner/name/"])
def test_what_is_neither_a_folder_nor_a_hub_id_is_a_plain_sentence(model: str) -> None:
    with pytest.raises(FatalError, match="no folder that exists, and no hub id"):
        ChatSettings(model=model).decided_by()
    assert served(model).decided_by()["model"] == f"{model}@"


@pytest.mark.parametrize(
    ("model", "field", "more"),
    [(ServerSettings, "base_url", {}), (EndpointSettings, "base_url", {}), (AnnotationSettings, "url", {})],
)
def test_a_password_inside_an_address_is_refused_and_not_repeated(model, field, more):
    with pytest.raises(ValidationError, match="no name and no password") as raised:
        model(**{field: "https://ann:hunter2@host/v1", **more})
    assert "hunter2" not in "; ".join(faults_of(raised.value, model))
