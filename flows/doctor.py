"""What is missing on this machine, in plain words."""

import importlib
import os
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flows.networks import model_source
from flows.settings import Settings
from policies.engine import load_policies
from storage.errors import GuardsetError
from storage.workspace import Workspace

_PACKAGES = ("torch", "diffusers", "transformers", "prefect", "label_studio_sdk", "pyarrow", "boto3", "skimage")
_ROOM_BYTES = 2_000_000_000


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `advice` says what to do, empty when all is well."""

    name: str
    found: str
    advice: str = ""


def examine(settings: Settings, root: str) -> list[Check]:
    """Every check, in the order in which a build needs them."""
    return [
        _python(),
        _packages(),
        _attempt("policies", lambda: ", ".join(p.id for p in load_policies(settings.policies))),
        *_models(settings),
        _workspace(root),
        *_label_studio(settings, root),
        *_credentials(root),
    ]


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


def _models(settings: Settings) -> list[Check]:
    locate, edit = settings.editing.locate, settings.editing.edit
    caption, rewrite = settings.recaption.caption, settings.recaption.rewrite
    checks = []
    for step, cfg in (("locate", locate), ("caption", caption), ("rewrite", rewrite)):
        if cfg.server is not None:
            checks.append(_served(step, cfg.model, cfg.server.base_url, cfg.server.api_key_env))
        elif step != "locate" or not locate.knows_originals_only or settings.editing.certify.recheck == "locate":
            checks.append(_model(step, model_source(step, cfg.model)))
    if edit.endpoint is not None:
        checks.append(_served("edit", edit.model, edit.endpoint.base_url, edit.endpoint.api_key_env))
    else:
        checks.append(_model("edit", model_source("edit", edit.model)))
    return checks


def _served(step: str, model: str, url: str, key_env: str | None) -> Check:
    missing = key_env is not None and not os.environ.get(key_env)
    return Check(f"{step} model", f"{model} at {url}", f"Set {key_env} to the server's key." if missing else "")


def _model(step: str, source: str) -> Check:
    folder = Path(source)
    if folder.is_dir():
        return Check(f"{step} model", source)
    if folder.is_absolute() or source.startswith("."):
        return Check(f"{step} model", source, "The folder does not exist. Correct the path in the config.")
    from huggingface_hub import try_to_load_from_cache

    cached = any(isinstance(try_to_load_from_cache(source, name), str) for name in ("config.json", "model_index.json"))
    advice = "" if cached else "Not in the local cache: the first build downloads it, which may take long."
    return Check(f"{step} model", source, advice)


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


def _label_studio(settings: Settings, root: str) -> list[Check]:
    cfg = settings.annotation
    if cfg.url is not None:
        token = "set" if os.environ.get(cfg.token_env) else "not set"
        advice = "" if token == "set" else f"Set {cfg.token_env} to your access token for {cfg.url}."
        return [Check("label studio", f"{cfg.url}, token {token}", advice)]
    from annotation.server import status

    program = shutil.which(str(cfg.executable))
    installed = Check(
        "label studio",
        program or "not installed",
        "" if program else f"No program at {cfg.executable}. Run `make label-studio`, or set annotation.executable.",
    )
    if root.startswith("s3://"):
        return [Check("label studio", "not set", "A workspace on S3 needs annotation.url in the config.")]
    running = status(root)
    if running is not None:
        return [installed, Check("port", f"served at {running.url}")]
    with socket.socket() as probe:
        busy = probe.connect_ex(("127.0.0.1", cfg.port)) == 0
    advice = "Another program listens there. Set annotation.port to a free one." if busy else ""
    return [installed, Check("port", f"{cfg.port} {'in use' if busy else 'free'}", advice)]


def _credentials(root: str) -> list[Check]:
    if not root.startswith("s3://"):
        return []
    import boto3

    found = boto3.Session().get_credentials() is not None
    advice = "" if found else "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or another source of the AWS chain."
    return [Check("aws credentials", "found" if found else "none", advice)]
