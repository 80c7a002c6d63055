"""Small trials of models and servers: what `guardset doctor` does before rows depend on them.

Each gives a few words about what was found, and raises FatalError or TransientError with what to do.
"""

import json
import os
import re
import time
from pathlib import Path

import numpy as np
from PIL import Image

from editing.networks import image_editor
from editing.settings import EditSettings
from models.chat import ChatRequest
from models.chat_models import chat_model
from models.image_edit import ImageEdit
from models.openai_connections import served_models
from models.pipeline_load import check_torchvision
from models.settings import ChatSettings
from models.source import folder_of
from storage.errors import FatalError, SampleError

_SIDE_PX = 256
_WITHOUT_WEIGHTS = re.compile("Tokenizer|Processor|Extractor|Scheduler")


def served(model: str, base_url: str, key_env: str | None, *, is_tried: bool) -> str:
    """Ask a server for its models, and look for this one. A server may have no such list; then only a trial tells."""
    key = os.environ.get(key_env, "") if key_env else ""
    if key_env and not key:
        raise FatalError(f"Set {key_env} to the server's key.")
    names = served_models(base_url, key)
    if names is None:
        unknown = "" if is_tried else ": not checked, --try asks it. Most addresses end in /v1"
        return f"{model}, on a server without a list of models{unknown}"
    if model not in names:
        raise FatalError(f"The server lists {', '.join(names) or 'nothing'}, not {model}. Correct the model's name.")
    return f"{model}, served"


def local_config(model: str, revision: str | None) -> str:
    """Load a transformers model's config: from its folder, or from the hub's cache."""
    import transformers

    path = folder_of(model)
    if path is None and _cached(model, "config.json", revision) is None:
        return f"{model}, not in the local cache: the first build downloads it"
    try:
        config = transformers.AutoConfig.from_pretrained(model, revision=revision)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise FatalError(f"{model} is no model that transformers can load: {first}") from error
    if path is not None and (missing := _missing_weights(path)):
        raise FatalError(f"{model} lacks {missing}. Download it again.")
    return f"{model} ({config.model_type})"


def pipeline_index(model: str, revision: str | None) -> str:
    """Read a diffusers pipeline's index, from its folder or from the hub's cache; look for the parts in a folder."""
    path = folder_of(model)
    index = path / "model_index.json" if path else _cached(model, "model_index.json", revision)
    if index is None:
        return f"{model}, not in the local cache: the first build downloads it"
    try:
        parts = json.loads(index.read_text(encoding="utf-8"))
        name = str(parts["_class_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FatalError(f"{model} is no diffusers pipeline: it has no model_index.json that can be read.") from error
    named = {part: str(of[1]) for part, of in parts.items() if isinstance(of, list) and of[0]}
    missing = next((found for part, kind in named.items() if path and (found := _missing_part(path / part, kind))), "")
    if missing:
        raise FatalError(f"{model} lacks {missing}, which its model_index.json names. Download it again.")
    check_torchvision(model, named.values(), is_folder=path is not None)
    return f"{model} ({name})"


def _missing_part(folder: Path, kind: str) -> str:
    """What a part of a pipeline lacks, "" for one that is whole; `kind` is the name of its class."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return f"the part {folder.name}"
    if _WITHOUT_WEIGHTS.search(kind):
        return ""
    if not (folder / "config.json").is_file():
        return f"{folder.name}/config.json"
    return _missing_weights(folder)


def _missing_weights(folder: Path) -> str:
    """What a network's folder lacks of its weights, "" where they are whole."""
    for index in folder.glob("*.safetensors.index.json"):
        try:
            shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError):
            return f"a {index.name} that can be read"
        for shard in sorted(shards):
            if not (folder / shard).is_file():
                return f"{folder.name}/{shard}"
    has_some = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
    return "" if has_some else f"weights in {folder.name} (*.safetensors)"


def _cached(model: str, name: str, revision: str | None) -> Path | None:
    """A file of a hub model, where it was downloaded."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def one_answer(settings: ChatSettings, *, sees: bool) -> str:
    """Ask for a few words, about a small picture where the model `sees`."""
    images = (Image.new("RGB", (_SIDE_PX, _SIDE_PX), (120, 160, 90)),) if sees else ()
    prompt = "Describe this image in five words." if sees else "Say hello in five words."
    started = time.perf_counter()
    try:
        (reply,) = chat_model(settings).generate([ChatRequest(prompt, images, 32)])
    except SampleError as error:
        raise FatalError(f"{settings.model} refuses a plain request: {error}") from error
    seconds = time.perf_counter() - started
    if not reply.text:
        raise FatalError(
            f"{settings.model} answers without a word. Its weights may need another dtype, or thinking is on."
        )
    return f"answers in {seconds:.1f} s"


def one_edit(settings: EditSettings) -> str:
    """Repaint the middle of a small picture."""
    rng = np.random.default_rng(0)
    side = min(settings.size_px or _SIDE_PX, 512)
    picture = rng.integers(90, 160, (side, side, 3)).astype(np.uint8)
    mask = np.zeros((side, side), dtype=np.bool_)
    mask[side // 3 : 2 * side // 3, side // 3 : 2 * side // 3] = True
    edit = ImageEdit(
        picture, mask, settings.prompt, 0, settings.instruction.replace("{instruction}", "Remove the square.")
    )
    started = time.perf_counter()
    (answer,) = image_editor(settings).edit([edit])
    if isinstance(answer, SampleError):
        raise FatalError(f"{settings.model} cannot edit a plain picture: {answer}")
    if np.array_equal(answer[mask], picture[mask]):
        raise FatalError(
            f"{settings.model} gave the picture back unchanged. Check strength and steps, and that a server reads the "
            "mask."
        )
    return f"edits in {time.perf_counter() - started:.1f} s"


def label_studio(url: str, token: str) -> str:
    """Sign in with the token."""
    from annotation.client import connect, plain_errors

    with plain_errors("signing in"):
        me = connect(url, token).users.whoami()
    return f"{url}, signed in as {me.email}"
