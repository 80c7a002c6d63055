"""The stages of this package: ingest, with the gate inside, and dedup."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from storage.dedup import DedupSettings, DedupStage
from storage.gate import BlockList
from storage.ingest import IngestSettings, IngestStage
from storage.records.images import Image
from storage.stage import Stage, deciding


@dataclass(frozen=True)
class Ingesting:
    """What ingest works with. Where the files lie decides nothing: what they are is in their rows."""

    settings: IngestSettings
    place: str

    @cached_property
    def blocked(self) -> BlockList:
        return BlockList.read(self.settings.block_list, max_distance=self.settings.block_distance)

    @property
    def decided_by(self) -> dict[str, Any]:
        """A changed block list checks every image again."""
        return deciding(self.settings) | {"block_list": self.blocked.content_hash}


INGEST = Stage[Ingesting](
    name="ingest",
    says="files that can be read and may be used",
    version=7,
    record=Image,
    decides=lambda values: values.decided_by,
    make=lambda values, workspace: IngestStage(workspace, values.place, values.settings, values.blocked),
    shard_rows=lambda values: values.settings.shard_rows,
    unit_in="key",
    unit_out="source_key",
)

DEDUP = Stage[DedupSettings](
    name="dedup",
    says="one of each set of equal images; copies of one picture share a family",
    version=3,
    record=Image,
    decides=deciding,
    make=lambda settings, workspace: DedupStage(settings, workspace.blobs),
    unit_in="source_key",
    unit_out="source_key",
)
