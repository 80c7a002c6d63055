"""What is missing on this machine: each thing that a build needs is tried, and what fails is said in plain words."""

import importlib
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from annotation.settings import AnnotationSettings
from editing.settings import EditSettings, LocateSettings
from flows.checks import check_names
from flows.cli import trial
from flows.pipeline import ready_stages
from flows.settings import Settings
from flows.values import targets_of
from models.settings import CLASSICAL, ChatSettings
from policies.engine import PolicySet
from policies.loading import load_policy_set
from storage.errors import GuardsetError
from storage.gate import BlockList
from storage.ingest import IngestSettings
from storage.workspace import Workspace

_PACKAGES = ("torch", "diffusers", "transformers", "prefect", "label_studio_sdk", "pyarrow", "boto3", "skimage", "cv2")
_ROOM_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Check:
    """One thing that was tried. `advice` says what to do, empty when all is well."""

    name: str
    found: str
    advice: str = ""


def examine(settings: Settings | None, root: str, *, try_models: bool = False) -> list[Check]:
    """Every check, in the order in which a build needs them; without settings those of the machine alone.

    With `try_models` each model answers or edits once.
    """
    checks = [_python(), _packages(), _gpus(), _workspace(root), *_credentials(root)]
    if settings is None:
        advice = "Write a config: guardset init --preset NAME. Then: guardset doctor --config guardset.yaml"
        return [*checks, Check("config", "none", advice)]
    policies = _attempt("policies", lambda: _policies(settings))
    checks += [policies, _attempt("block list", lambda: _block_list(settings.ingest)), *_models(settings, try_models)]
    if not policies.advice:
        checks += _others(settings, load_policy_set(settings.policies), {check.advice for check in checks})
    return [*checks, *_label_studio(settings.annotation, root)]


def _attempt(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, look())
    except GuardsetError as error:
        return Check(name, "not usable", str(error))


def _python() -> Check:
    found = sys.version.split()[0]
    return Check("python", found, "" if sys.version_info >= (3, 11) else "Install Python 3.11 or later.")


def _packages() -> Check:
    missing = []
    for name in _PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            missing.append(name)
    advice = f"Not importable: {', '.join(missing)}. Run `make install`." if missing else ""
    return Check("packages", f"{len(_PACKAGES) - len(missing)} of {len(_PACKAGES)}", advice)


def _gpus() -> Check:
    import torch

    cards = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
    listed = ", ".join(f"{card.name} ({card.total_memory / 2**30:.0f} GiB)" for card in cards)
    return Check("gpus", listed or "none: networks in this process run on the CPU")


def _policies(settings: Settings) -> str:
    policies = load_policy_set(settings.policies)
    targets = ", ".join(policy.id for policy in targets_of(settings, policies))
    listed = ", ".join(policy.id for policy in policies)
    return f"{listed}; {len(policies.vocabulary)} attributes; what violates {targets} is edited"


def _others(settings: Settings, policies: PolicySet, said: set[str]) -> Iterator[Check]:
    """What else stops a build: names that mean nothing, and what decides each stage, as far as files are part of it
    (prompts, regions). Only what is wrong, and each fault once: `said` is the advice given already."""
    checks = [_attempt("names", lambda: _names(settings, policies))]
    for name, stage in ready_stages(settings, policies).items():
        checks.append(_attempt(name, lambda stage=stage: str(stage.decides)))  # type: ignore[misc]
    for check in checks:
        if check.advice and check.advice not in said:
            said.add(check.advice)
            yield check


def _names(settings: Settings, policies: PolicySet) -> str:
    check_names(settings, policies)
    return "known"


def _block_list(settings: IngestSettings) -> str:
    if settings.block_list is None:
        return "none"
    BlockList.read(settings.block_list, max_distance=settings.block_distance)
    return str(settings.block_list)


def _models(settings: Settings, try_models: bool) -> Iterator[Check]:
    """Each model once, whichever steps name it."""
    editing, recaption = settings.editing, settings.recaption
    chats: list[tuple[str, ChatSettings]] = []
    if editing.locate.model and editing.locate.source != "detector":
        chats.append(("locate", editing.locate))
    if editing.certify.witness is not None and editing.certify.witness.source == "chat":
        chats.append(("witness", editing.certify.witness))
    if recaption is not None:
        chats += [("caption", recaption.caption), ("rewrite", recaption.rewrite)]
    by_model: dict[tuple[object, ...], tuple[list[str], ChatSettings]] = {}
    for step, chat in chats:
        by_model.setdefault((chat.model, chat.revision, chat.server), ([], chat))[0].append(step)
    for steps, chat in by_model.values():
        sees = steps != ["rewrite"]
        yield _attempt(f"{', '.join(steps)} model", lambda chat=chat, sees=sees: _chat(chat, sees, try_models))  # type: ignore[misc]
    if editing.locate.source == "detector":
        yield _attempt("locate model", lambda: trial.local_config(editing.locate.model, editing.locate.revision))
    yield _attempt("edit model", lambda: _editor(editing.edit, try_models))


def _chat(settings: ChatSettings, sees: bool, try_models: bool) -> str:
    if settings.server is not None:
        found = trial.served(settings.model, settings.server.base_url, settings.server.api_key_env, is_tried=try_models)
    else:
        found = trial.local_config(settings.model, settings.revision)
    if isinstance(settings, LocateSettings):
        found += f", boxes in {settings.units.replace('_', ' ')}"
    return f"{found}; {trial.one_answer(settings, sees=sees)}" if try_models else found


def _editor(settings: EditSettings, try_models: bool) -> str:
    if settings.model in CLASSICAL:
        found = f"{settings.model}, without weights"
    elif settings.endpoint is not None:
        found = trial.served(
            settings.model, settings.endpoint.base_url, settings.endpoint.api_key_env, is_tried=try_models
        )
    else:
        found = trial.pipeline_index(settings.model, settings.revision)
    return f"{found}; {trial.one_edit(settings)}" if try_models else found


def _workspace(root: str) -> Check:
    if not root.startswith("s3://"):
        existing = next(p for p in (Path(root).absolute(), *Path(root).absolute().parents) if p.exists())
        if not existing.is_dir():
            return Check("workspace", root, f"{existing} is a file. Choose another --workspace.")
        if not os.access(existing, os.W_OK):
            return Check("workspace", root, f"{existing} cannot be written to. Choose another --workspace.")
        free = shutil.disk_usage(existing).free
        advice = "" if free > _ROOM_BYTES else "Less than 2 GB free; images and masks need room."
        return Check("workspace", f"{root}, {free / 1e9:.0f} GB free", advice)
    return _attempt("workspace", lambda: _reach_bucket(root))


def _reach_bucket(root: str) -> str:
    Workspace.open(root).store.exists("builds/latest.json")
    return root


def _label_studio(settings: AnnotationSettings, root: str) -> list[Check]:
    if settings.url is not None:
        token = os.environ.get(settings.token_env, "")
        if not token:
            return [
                Check(
                    "label studio", settings.url, f"Set {settings.token_env} to your access token for {settings.url}."
                )
            ]
        return [_attempt("label studio", lambda: trial.label_studio(str(settings.url), token))]
    from annotation.server import program, status

    installed = _attempt("label studio", lambda: program(settings.executable))
    if root.startswith("s3://"):
        return [Check("label studio", "not set", "A workspace on S3 needs annotation.url in the config.")]
    running = status(root)
    if running is not None:
        return [installed, Check("port", f"served at {running.url}")]
    with socket.socket() as probe:
        busy = probe.connect_ex(("127.0.0.1", settings.port)) == 0
    advice = "Another program listens there. Set annotation.port to a free one." if busy else ""
    return [installed, Check("port", f"{settings.port} {'in use' if busy else 'free'}", advice)]


def _credentials(root: str) -> list[Check]:
    if not root.startswith("s3://"):
        return []
    import boto3

    found = boto3.Session().get_credentials() is not None
    advice = "" if found else "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or another source of the AWS chain."
    return [Check("aws credentials", "found" if found else "none", advice)]
