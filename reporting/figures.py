"""How pages write numbers."""

import math


def measure(value: float | None) -> str:
    """A number with two decimals, or n/a where it is not defined."""
    return "n/a" if value is None or math.isnan(value) else f"{value:.2f}"


def percent(value: float) -> str:
    """A share as a percentage with at most one decimal."""
    return f"{100 * value:.1f}".removesuffix(".0") + "\u00a0%"
