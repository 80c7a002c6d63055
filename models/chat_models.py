"""From settings to a chat model: behind its server or in this process, with its requests counted."""

from collections.abc import Sequence
from functools import cache

from models.chat import ChatModel, ChatReply, ChatRequest
from models.image_links import ImageLinks
from models.metering import MeteredChat
from models.openai_chat import OpenAIChat
from models.settings import ChatSettings, Quantize, ServerSettings
from models.transformers_chat import TransformersChat


def chat_model(settings: ChatSettings) -> ChatModel:
    """The model that the settings name. Stages that name the same one share its weights, or its server's slots."""
    if settings.server is not None:
        return MeteredChat(_served(settings.model, settings.revision, settings.server), settings.model)
    return MeteredChat(
        _InBatches(_local(settings.model, settings.revision, settings.quantize), settings.batch_size), settings.model
    )


class _InBatches:
    """A loaded model, asked in batches of a stage's own size: stages share the weights, not the size."""

    def __init__(self, model: TransformersChat, batch_size: int) -> None:
        self._model, self._batch_size = model, batch_size

    @property
    def fingerprint(self) -> str:
        return self._model.fingerprint

    def generate(self, requests: Sequence[ChatRequest]) -> list[ChatReply]:
        return self._model.generate(requests, self._batch_size)


@cache
def _local(model: str, revision: str | None, quantize: Quantize | None) -> TransformersChat:
    return TransformersChat(model, revision=revision, quantize=quantize)


@cache
def _served(model: str, revision: str | None, server: ServerSettings) -> OpenAIChat:
    if server.images_through is None:
        return OpenAIChat(model, server, revision=revision)
    links = ImageLinks(server.images_through, server.link_expires_s)
    return OpenAIChat(model, server, revision=revision, image_transport=links)
