"""Caption: a model's own words about an image, from its own distribution."""

from collections.abc import Sequence

import pyarrow as pa

from models.chat import ChatModel, ChatReply, ChatRequest
from recaption.answers import RefusalJudge, clean_answer, hints_at_refusal
from recaption.generation import Sampling
from recaption.settings import CaptionSettings
from storage.errors import SampleError
from storage.images import open_stored
from storage.network import Batching, run_network
from storage.records.ids import sha256_hex
from storage.records.images import Picture
from storage.records.recaption import Caption
from storage.records.tables import from_table
from storage.stage import BatchResult
from storage.workspace import Workspace


class CaptionStage:
    """Images to captions. A refusal, an empty, looped or unfinished answer is a rejection, never a caption.

    With `judge_refusals` a caption that hints at a refusal goes on only when the model says that it describes.
    It is asked in a pass of its own, so that its failures re-pay no caption.
    """

    def __init__(self, workspace: Workspace, model: ChatModel, prompt: str, settings: CaptionSettings) -> None:
        self._workspace = workspace
        self._model = model
        self._prompt = prompt
        self._settings = settings
        self._sampling = Sampling.of(settings, "caption")

    def run_shard(self, shard: pa.Table) -> BatchResult[Caption]:
        batching = Batching(None)  # of requests, none of which holds pixels
        written = run_network(from_table(shard, Picture), self, batching, key=lambda row: row.image_id)
        if not self._settings.judge_refusals:
            return written
        doubtful = [row for row in written.ok if hints_at_refusal(row.text)]
        judged = run_network(doubtful, _Judging(RefusalJudge(self._model)), batching, key=lambda row: row.image_id)
        refused = {rejection.key for rejection in judged.rejected}
        kept = [row for row in written.ok if row.image_id not in refused]
        return BatchResult(kept, [*written.rejected, *judged.rejected])

    def prepare(self, row: Picture) -> ChatRequest:
        """The picture is opened, not decoded: the model does that when its turn comes, so that a large batch holds
        files and no pixels."""
        image = open_stored(self._workspace.blobs.get(row.blob))
        how = self._sampling
        return ChatRequest(self._prompt, (image,), self._settings.max_new_tokens, how.temperature, how.seed)

    def run(self, pieces: Sequence[ChatRequest]) -> list[ChatReply]:
        return self._model.generate(pieces)

    def finish(self, row: Picture, _: ChatRequest, answer: ChatReply) -> list[Caption]:
        text, prompt_hash = clean_answer(answer, stage="caption"), sha256_hex(self._prompt.encode())
        return [Caption(row.image_id, text, "ok", self._model.fingerprint, prompt_hash, self._sampling.spent(answer))]


class _Judging:
    """Asks about captions that may be refusals."""

    def __init__(self, judge: RefusalJudge) -> None:
        self._judge = judge

    def prepare(self, row: Caption) -> str:
        return row.text

    def run(self, pieces: Sequence[str]) -> list[bool]:
        return self._judge.refused(pieces)

    def finish(self, row: Caption, _: str, answer: bool) -> list[Caption]:
        if answer:
            raise SampleError("caption_refused", "The judge of refusals says that this declines to describe.")
        return [row]
