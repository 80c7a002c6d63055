"""Caption: a model's own words about an image, from its own distribution."""

from collections.abc import Sequence

import pyarrow as pa
from PIL import Image as PilImage

from models.chat import ChatModel, ChatReply, ChatRequest
from recaption.answers import clean_answer
from storage.errors import SampleError
from storage.images import decode_stored
from storage.records import Caption, Image, Rejection, from_table, sha256_hex
from storage.stage import BatchResult, in_batches, reject
from storage.workspace import Workspace

CAPTION_VERSION = 1


def caption_batch(
    batch: Sequence[Image], *, workspace: Workspace, model: ChatModel, prompt: str, max_new_tokens: int
) -> BatchResult[Caption]:
    """One caption per image. A refusal, an empty or an unfinished answer is a rejection, never a caption."""
    images = [PilImage.fromarray(decode_stored(workspace.blobs.get(row.blob))) for row in batch]
    replies = model.generate([ChatRequest(prompt, (image,), max_new_tokens) for image in images])
    ok: list[Caption] = []
    rejected: list[Rejection] = []
    for row, reply in zip(batch, replies, strict=True):
        try:
            ok.append(_caption(row, reply, model.fingerprint, prompt))
        except SampleError as error:
            rejected.append(reject(row, row.image_id, error))
    return BatchResult(ok, rejected)


def _caption(row: Image, reply: ChatReply, fingerprint: str, prompt: str) -> Caption:
    text = clean_answer(reply, stage="caption")
    return Caption(row.image_id, text, "ok", fingerprint, sha256_hex(prompt.encode()))


class CaptionStage:
    """Images to captions."""

    def __init__(self, root: str, model: ChatModel, prompt: str, max_new_tokens: int, batch_size: int) -> None:
        self._workspace = Workspace.open(root)
        self._model = model
        self._prompt = prompt
        self._max_new_tokens = max_new_tokens
        self._batch_size = batch_size

    def run_shard(self, shard: pa.Table) -> BatchResult[Caption]:
        return in_batches(from_table(shard, Image), self._step, key=lambda row: row.image_id, size=self._batch_size)

    def _step(self, batch: Sequence[Image]) -> BatchResult[Caption]:
        return caption_batch(
            batch,
            workspace=self._workspace,
            model=self._model,
            prompt=self._prompt,
            max_new_tokens=self._max_new_tokens,
        )
