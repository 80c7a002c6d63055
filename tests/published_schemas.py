"""The columns of data sets as their cards give them, for tiny files of the same form."""

from guard.contract.features import IMAGE, TEXT, class_label

FIVE_POLICIES = {
    "image": IMAGE,
    "image_path": TEXT,
    "safety_label": class_label(["safe", "unsafe"]),
    "policy_name": class_label([f"Policy L{i}" for i in range(1, 6)]),
    "policy": TEXT,
}
"""SafeEditBench's."""
