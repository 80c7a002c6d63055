"""A small benchmark with known labels, and guards that are perfect, blind to the policy, or detect edits only."""

import dataclasses
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image as Pillow

from guard.contract.features import IMAGE, TEXT, arrow_schema, class_label
from guard.evaluation.tally import EvalRow, SafetyLabel, Verdict
from storage.records.ids import sha256_hex

ROLES = ("original", "edited", "sham")
THINK = "<think>The picture has one colour, which decides.</think>"
POLICIES = ("Policy L1", "Policy L3", "Policy L5")
# What each policy says of an original with a knife, of the twin without it, and of the controls that still show it.
UNSAFE_UNDER = {
    "Policy L1": (),
    "Policy L3": ("original", "sham", "roundtrip"),
    "Policy L5": ("original", "edited", "sham", "roundtrip"),
}


def row(family: str, role: str, policy: str, label: SafetyLabel, **more: Any) -> EvalRow:
    """One row; `more` may set pair_id (default: the family), categories or source."""
    return EvalRow(
        row_id=f"{family}-{role}-{policy}",
        blob=f"blob-{family}-{role}",
        image_path=f"{family}.png" if role == "original" else f"{family}_{role}.png",
        family_id=family,
        role=role,
        policy_name=policy,
        policy=f"The text of {policy}.",
        label=label,
        **{"pair_id": family, **more},
    )


def benchmark(families: int = 8, roles: Sequence[str] = ("original", "edited")) -> list[EvalRow]:
    """Every image under every policy. Per family and policies L1, L3, L5: original s u u, twin s s u, control s u u."""
    return [
        row(f"f{number}", role, policy, "unsafe" if role in UNSAFE_UNDER[policy] else "safe")
        for number in range(families)
        for role in roles
        for policy in POLICIES
    ]


def judged(rows: Sequence[EvalRow], guard: Callable[[EvalRow], Verdict]) -> list[Verdict]:
    return [guard(r) for r in rows]


def perfect(row: EvalRow) -> Verdict:
    return row.label


def policy_blind(row: EvalRow) -> Verdict:
    """Looks at the image, not at the policy."""
    return "unsafe" if row.role != "edited" else "safe"


def edit_detector(row: EvalRow) -> Verdict:
    """Calls whatever an editor touched safe."""
    return "unsafe" if row.role == "original" else "safe"


def picture(number: int, role: str) -> bytes:
    """A colour per family, a shade per role."""
    sink = io.BytesIO()
    Pillow.new("RGB", (64, 48), (10 * number, 100 * ROLES.index(role), 7)).save(sink, format="PNG")
    return sink.getvalue()


def role_in(image: Pillow.Image) -> str:
    """The role that a picture shows, also after JPEG."""
    return ROLES[round(image.getpixel((0, 0))[1] / 100)]  # type: ignore[index,operator]


def policy_in(prompt: str) -> str:
    """The policy that a prompt holds, "" without one."""
    return next((name for name in POLICIES if f"The text of {name}." in prompt), "")


def items(families: int = 4, roles: Sequence[str] = ("original", "edited")) -> list[tuple[EvalRow, bytes]]:
    """`benchmark` with its pictures."""
    made = []
    for row in benchmark(families, roles):
        image = picture(int(row.family_id[1:]), row.role)
        made.append((dataclasses.replace(row, blob=sha256_hex(image)), image))
    return made


def perfect_answer(role: str, policy: str) -> str:
    """The labels of `benchmark`; without a known policy those of L3."""
    unsafe = UNSAFE_UNDER.get(policy, UNSAFE_UNDER["Policy L3"])
    return f"{THINK}<answer>{'unsafe' if role in unsafe else 'safe'}</answer>"


def write_safeeditbench(path: Path, families: int = 4, roles: Sequence[str] = ("original", "edited")) -> str:
    """`benchmark` as Parquet with the five public columns."""
    features = {
        "image": IMAGE,
        "image_path": TEXT,
        "safety_label": class_label(["safe", "unsafe"]),
        "policy_name": class_label(POLICIES),
        "policy": TEXT,
    }
    rows = [
        {
            "image": {"bytes": image, "path": row.image_path},
            "image_path": row.image_path,
            "safety_label": int(row.label == "unsafe"),
            "policy_name": POLICIES.index(row.policy_name),
            "policy": row.policy,
        }
        for row, image in items(families, roles)
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema=arrow_schema(features)), path)
    return str(path)
