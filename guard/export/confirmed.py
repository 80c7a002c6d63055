"""What people confirmed that images show, by which rules label what nobody voted on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from policies.evidence import Evidence


class ByAttributes(Protocol):
    """How far labels by attributes agree with people's verdicts under one policy, as
    `annotation.attribute_agreement.AttributeAgreement` says."""

    @property
    def policy_id(self) -> str: ...
    @property
    def labelled(self) -> int: ...
    @property
    def compared(self) -> int: ...
    @property
    def share(self) -> float | None: ...
    @property
    def low(self) -> float | None: ...
    @property
    def high(self) -> float | None: ...
    @property
    def missed(self) -> int: ...
    @property
    def invented(self) -> int: ...
    @property
    def left_open(self) -> int: ...


@dataclass(frozen=True)
class Confirmed:
    """What people confirmed that images show, by image_id; rules label from it what nobody voted on."""

    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    agreement: Sequence[ByAttributes] = ()
    simulated: bool = False  # whether any of it came from a scripted annotator
