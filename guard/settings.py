"""The settings of this room: what an export is called, how it is split, how much its report draws."""

from pydantic import BaseModel, ConfigDict, Field

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class GuardSettings(BaseModel):
    """`name` is the folder below exports/, `test_ratio` the expected share of families held out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default="guardset", pattern=NAME_PATTERN)
    test_ratio: float = Field(default=0.3, ge=0.0, le=1.0)
    seed: int = 0
    max_report_pairs: int = Field(default=40, ge=0)
