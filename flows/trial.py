"""Small trials of models and servers: what `guardset doctor` does before rows depend on them.

Each gives a few words about what was found, and raises FatalError or TransientError with what to do.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from editing.networks import image_editor
from editing.settings import EditSettings
from models.chat import ChatRequest
from models.chat_models import chat_model
from models.image_edit import ImageEdit
from models.openai_connections import served_models
from models.settings import ChatSettings
from storage.errors import FatalError, SampleError

_SIDE_PX = 256


def served(model: str, base_url: str, key_env: str | None) -> str:
    """Ask a server for its models, and look for this one."""
    key = os.environ.get(key_env, "") if key_env else ""
    if key_env and not key:
        raise FatalError(f"Set {key_env} to the server's key.")
    names = served_models(base_url, key)
    if model not in names:
        raise FatalError(f"The server lists {', '.join(names) or 'nothing'}, not {model}. Correct the model's name.")
    return f"{model}, served"


def local_config(model: str, revision: str | None) -> str:
    """Load a transformers model's config: from its folder, or from the hub's cache."""
    import transformers

    path = _folder(model)
    if path is None and not _is_cached(model, "config.json", revision):
        return f"{model}, not in the local cache: the first build downloads it"
    try:
        config = transformers.AutoConfig.from_pretrained(model, revision=revision)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise FatalError(f"{model} is no model that transformers can load: {first}") from error
    if path is not None and not list(path.glob("*.safetensors")) and not list(path.glob("*.bin")):
        raise FatalError(f"{model} holds a config and no weights (*.safetensors).")
    return f"{model} ({config.model_type})"


def pipeline_index(model: str, revision: str | None) -> str:
    """Read a diffusers pipeline's index: from its folder, or from the hub's cache."""
    from huggingface_hub import try_to_load_from_cache

    path = _folder(model)
    index: Any = (
        path / "model_index.json" if path else try_to_load_from_cache(model, "model_index.json", revision=revision)
    )
    if path is None and not isinstance(index, str):
        return f"{model}, not in the local cache: the first build downloads it"
    try:
        parts = json.loads(Path(index).read_text(encoding="utf-8"))
        name = str(parts["_class_name"])
    except (OSError, ValueError, KeyError) as error:
        raise FatalError(f"{model} is no diffusers pipeline: it has no model_index.json that can be read.") from error
    missing = [
        part for part, of in parts.items() if isinstance(of, list) and of[0] and path and not (path / part).is_dir()
    ]
    if missing:
        raise FatalError(f"{model} lacks the part {missing[0]} that its model_index.json names.")
    return f"{model} ({name})"


def _folder(model: str) -> Path | None:
    """The folder that a model's name is, None for a hub id; raises FatalError for a folder that is not there."""
    path = Path(model)
    if path.is_dir():
        return path
    if path.is_absolute() or model.startswith("."):
        raise FatalError(f"The folder {model} does not exist. Correct the path in the config.")
    return None


def _is_cached(model: str, name: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(model, name, revision=revision), str)


def one_answer(cfg: ChatSettings, *, sees: bool) -> str:
    """Ask for a few words, about a small picture where the model `sees`."""
    images = (Image.new("RGB", (_SIDE_PX, _SIDE_PX), (120, 160, 90)),) if sees else ()
    prompt = "Describe this image in five words." if sees else "Say hello in five words."
    started = time.perf_counter()
    try:
        (reply,) = chat_model(cfg).generate([ChatRequest(prompt, images, 32)])
    except SampleError as error:
        raise FatalError(f"{cfg.model} refuses a plain request: {error}") from error
    seconds = time.perf_counter() - started
    if not reply.text:
        raise FatalError(f"{cfg.model} answers without a word. Its weights may need another dtype, or thinking is on.")
    return f"answers in {seconds:.1f} s"


def one_edit(cfg: EditSettings) -> str:
    """Repaint the middle of a small picture."""
    rng = np.random.default_rng(0)
    side = min(cfg.size_px or _SIDE_PX, 512)
    picture = rng.integers(90, 160, (side, side, 3)).astype(np.uint8)
    mask = np.zeros((side, side), dtype=np.bool_)
    mask[side // 3 : 2 * side // 3, side // 3 : 2 * side // 3] = True
    edit = ImageEdit(picture, mask, cfg.prompt, 0, cfg.instruction.replace("{instruction}", "Remove the square."))
    started = time.perf_counter()
    (answer,) = image_editor(cfg).edit([edit])
    if isinstance(answer, SampleError):
        raise FatalError(f"{cfg.model} cannot edit a plain picture: {answer}")
    if np.array_equal(answer[mask], picture[mask]):
        raise FatalError(
            f"{cfg.model} gave the picture back unchanged. Check strength and steps, and that a server reads the mask."
        )
    return f"edits in {time.perf_counter() - started:.1f} s"


def label_studio(url: str, token: str) -> str:
    """Sign in with the token."""
    from annotation.client import connect, plain_errors

    with plain_errors("signing in"):
        me = connect(url, token).users.whoami()
    return f"{url}, signed in as {me.email}"
