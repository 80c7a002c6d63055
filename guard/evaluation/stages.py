"""The stage of this package: a guard's answers to questions."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from guard.evaluation.answering import EvaluateStage
from guard.evaluation.plan import EvaluateOptions
from guard.evaluation.settings import GuardModelSettings
from models.chat_models import chat_model
from storage.records.guard import GuardAnswer
from storage.stage import Stage


@dataclass(frozen=True)
class Asking:
    """Which guard is asked, and how."""

    guard: GuardModelSettings
    options: EvaluateOptions
    shard_rows: int

    @property
    def decided_by(self) -> dict[str, Any]:
        values = {k: v for k, v in self.guard.decided_by().items() if k not in ("name", "adapter", "mapping")}
        form = self.options.adapter.model_dump(mode="json", exclude={"name", "source", "tested", "mapping"})
        asked = {"max_new_tokens": self.options.max_new_tokens, "temperature": self.options.temperature}
        name = "" if isinstance(self.guard.adapter, Path) else self.guard.adapter  # a file may lie anywhere
        return values | asked | {"adapter": [name, form]}


EVALUATE = Stage[Asking](
    name="evaluate",
    says="a guard's answers to the questions of a benchmark",
    version=4,
    record=GuardAnswer,
    decides=lambda asking: asking.decided_by,
    make=lambda asking, workspace: EvaluateStage(workspace, chat_model(asking.guard), asking.options),
    needs=lambda asking: asking.guard.needs,
    shard_rows=lambda asking: asking.shard_rows,
    unit_in="question_id",
    unit_out="question_id",
)
