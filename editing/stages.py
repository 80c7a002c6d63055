"""The stages of this package: locate, edit, certify, select."""

from dataclasses import dataclass
from typing import Any

from editing.certify import CertifyStage, QuestioningStage
from editing.edit import EditStage
from editing.locate import LocateStage
from editing.networks import Looking, make_editor, make_locator, make_witnesses
from editing.select import SelectStage
from editing.settings import CertifySettings, EditSettings
from policies.engine import PolicySet
from storage.records.editing import Edit, Located
from storage.stage import Needs, Stage, Tool, deciding
from storage.workspace import Workspace

_OF_OTHER_SOURCES = {
    "chat": {"manifest", "detector_threshold", "detector_max_iou"},
    "detector": {"manifest", "label_map", "prompt", "box_units", "max_new_tokens", "rules", "server"},
}


def look_decided_by(looking: Looking) -> Any:
    """What an answer about an image depends on: what was marked beforehand, or the model and what it is asked."""
    settings = looking.settings
    if settings.knows_originals_only:
        return {settings.source: looking.marked.fingerprint}
    values = settings.decided_by(words=looking.vocabulary.spoken, rules=sorted(looking.rules))
    if settings.source == "chat":
        values |= {"prompt": looking.prompts, "box_units": settings.units}
    return {name: value for name, value in values.items() if name not in _OF_OTHER_SOURCES[settings.source]}


LOCATE = Stage[Looking](
    name="locate",
    says="what an image shows, and where",
    version=7,
    record=Located,
    decides=lambda looking: [look_decided_by(looking), looking.vocabulary.blocking],
    make=lambda looking, workspace: LocateStage(
        workspace,
        make_locator(looking),
        looking.settings.rows_at_once,
        looking.vocabulary,
        is_model=not looking.settings.knows_originals_only,
    ),
    needs=lambda looking: looking.settings.needs,
    shard_rows=lambda looking: looking.settings.shard_rows,
)

EDIT = Stage[EditSettings](
    name="edit",
    says="regions repainted, and controls beside them",
    version=7,
    record=Edit,
    decides=lambda settings: {
        k: v for k, v in settings.decided_by().items() if k != "target_policies"
    },  # they choose the rows
    make=lambda settings, workspace: EditStage(workspace, make_editor(settings), settings),
    needs=lambda settings: settings.needs,
    shard_rows=lambda settings: settings.shard_rows,
)


@dataclass(frozen=True)
class Certifying:
    """What certify works with; `looking` is used where somebody looks at edits."""

    settings: CertifySettings
    looking: Looking
    feather_px: int
    shard_rows: int

    @property
    def needs(self) -> Needs:
        looks = self.settings.recheck == "locate" or self.settings.questions
        return self.looking.settings.needs if looks else "nothing"

    @property
    def decided_by(self) -> Any:
        values: dict[str, Any] = deciding(self.settings) | {"feather_px": self.feather_px}
        values.pop("witness", None)  # what of it decides is in `look`
        if self.settings.recheck == "locate":
            kinds = [[a.id, *a.is_a] for a in self.looking.vocabulary.values()]
            values["look"] = [look_decided_by(self.looking), kinds, self.looking.vocabulary.blocking]
        if self.settings.questions:
            values["asked"] = [self.looking.settings.model_decided_by(), self.looking.vocabulary.spoken]
        return values


def _certify(values: Certifying, workspace: Workspace) -> Tool:
    witnesses = make_witnesses(values.settings, values.looking)
    rows = values.looking.settings.rows_at_once
    vocabulary = values.looking.vocabulary
    stage = CertifyStage(workspace, witnesses, values.feather_px, values.settings, rows, vocabulary)
    if witnesses.chat is None:
        return stage
    return QuestioningStage(stage, witnesses.chat, values.settings.questions, vocabulary)


CERTIFY = Stage[Certifying](
    name="certify",
    says="each edit measured and looked at again",
    version=7,
    record=Edit,
    decides=lambda values: values.decided_by,
    make=_certify,
    needs=lambda values: values.needs,
    shard_rows=lambda values: values.shard_rows,
    unit_in="edit_id",
    unit_out="edit_id",
)

SELECT = Stage[PolicySet](
    name="select",
    says="the best certified candidate of each image, and what it means under each policy",
    version=4,
    record=Edit,
    decides=lambda policies: [
        [p.content_hash for p in policies],
        [[a.id, *a.is_a] for a in policies.vocabulary.values()],
    ],
    make=lambda policies, _: SelectStage(policies),
)
