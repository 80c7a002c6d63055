"""Whether the servers of a build still serve the weights that the workspace was built with.

A server answers under a name, and a result is kept under that name. Where the list of models says more (the folder or
the parent of the weights, their size), a change of it under the same name is seen before answers of both are mixed.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from flows.settings import Settings
from models.openai_connections import listed_models
from storage.errors import FatalError
from storage.workspace import Workspace

_KEPT = "builds/served.json"
_SAYS = ("root", "parent", "owned_by", "meta")  # of vLLM and SGLang, hosts, llama.cpp; `created` is mostly the start


def check_served(workspace: Workspace, settings: Settings) -> None:
    """Compare what each server says of its model with what it said before, and keep what is new.

    Raises FatalError where one name stands for other weights than before. A server that does not answer, or says
    nothing of them, is not judged.
    """
    known: Mapping[str, Any] = workspace.read_json(_KEPT) or {}
    found = dict(known)
    for model, revision, base_url, key_env in set(_named(settings)):
        name = f"{model}@{revision}" if revision else model
        says = _what_it_says(base_url, os.environ.get(key_env or "", ""), model)
        before = known.get(name)
        if says and before and says != before:
            part = next(part for part in sorted({*says, *before}) if says.get(part) != before.get(part))
            raise FatalError(
                f"{model} is not the model that this workspace was built with: its server said {part} "
                f"{before.get(part)!r} then and {says.get(part)!r} now. Answers of the two would be mixed. Set "
                "`revision` beside `model` to a new word, and the new one is asked about everything; or serve the "
                "former one."
            )
        found |= {name: says} if says else {}
    if found != known:
        workspace.write_json(_KEPT, found)


def _named(settings: Settings) -> Iterator[tuple[str, str | None, str, str | None]]:
    """Model, revision, address and name of the key's variable of all that the build asks of servers."""
    editing, recaption = settings.editing, settings.recaption
    chats = [editing.locate, editing.certify.witness, *((recaption.caption, recaption.rewrite) if recaption else ())]
    for chat in chats:
        if chat is not None and chat.server is not None and chat.model:
            yield chat.model, chat.revision, chat.server.base_url, chat.server.api_key_env
    edit = editing.edit
    if edit.endpoint is not None:
        yield edit.model, edit.revision, edit.endpoint.base_url, edit.endpoint.api_key_env


def _what_it_says(base_url: str, key: str, model: str) -> dict[str, Any]:
    try:
        listed = listed_models(base_url, key) or []
    except FatalError:  # whoever asks it for an answer says so, and may wait until it is up
        return {}
    entry = next((one for one in listed if one.get("id") == model), {})
    says = {part: entry[part] for part in _SAYS if entry.get(part)}
    if isinstance(says.get("root"), str):
        says["root"] = PurePath(says["root"]).name  # a folder may move
    return says
