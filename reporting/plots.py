"""Plots as inline SVG, drawn by matplotlib: bars with intervals, stacked bars, curves, heat maps.

Every function is pure and gives `Markup` that stands in an HTML page as it is: no script, nothing loaded.
Text takes the page's colour, so that one plot suits a light and a dark page. Equal values give equal text.
A value that is None, NaN or infinite is shown as "n/a", never as zero.
"""

import io
import math
import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from cycler import cycler
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

PALETTE = ("#3b6fb6", "#d1603d", "#3a9a7a", "#b58a1c", "#8a5fb0", "#7d7d78", "#2b93b0", "#b4517e")  # on white and black
WIDTH_PX = 720
_INK = "#010203"  # stands for the page's own colour, which matplotlib has no name for, until the SVG is written
_XLINK_HREF = "{http://www.w3.org/1999/xlink}href"
_TIP = "tip: "  # begins the name of what shows the rest of its name under the pointer
_NOT_IN_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f]")
_LONGEST_LABEL = 34  # characters
_POINTS_PER_INCH = 72  # an SVG of matplotlib has a pixel to the point
_STYLE: dict[str, Any] = {
    "axes.edgecolor": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK, "text.color": _INK,
    "axes.spines.left": False, "axes.spines.right": False, "axes.spines.top": False, "axes.spines.bottom": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": _INK, "grid.alpha": 0.16,
    "axes.prop_cycle": cycler(color=PALETTE), "font.size": 12, "font.sans-serif": ["DejaVu Sans"],
    "legend.frameon": False, "lines.linewidth": 1.8,
    "xtick.major.size": 0, "ytick.major.size": 0, "text.parse_math": False, "svg.fonttype": "none",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval; a bound that is not known is None."""

    value: float | None
    low: float | None = None
    high: float | None = None


Value = Estimate | float | None


def bars(
    groups: Sequence[str],
    series: Mapping[str, Sequence[Value]],
    *,
    title: str,
    unit: str,
    limits: tuple[float, float] | None = None,
    decimals: int = 2,
) -> Markup:
    """Horizontal bars, one per group and series, with a whisker where a value has an interval.

    `unit` stands below the axis and says what the values and whiskers are. `series` maps a name to one value per
    group. `limits` is the axis, default: from 0 (or below) to the largest value.
    Raises ValueError when a series has another length than `groups`.
    """
    _check_lengths(series, len(groups))
    step = max(1, len(series)) + 0.8  # in bars
    with _plot(title, 54 + 13 * step * len(groups), series) as (axes, svg):
        for j, (name, values) in enumerate(series.items()):
            found = [v if isinstance(v, Estimate) else Estimate(v) for v in values]
            places = [i * step + j for i in range(len(groups))]
            drawn = axes.barh(places, [_finite(e.value) or 0.0 for e in found], height=0.85, label=name)
            _tell(drawn, [f"{g}, {name}: {_described(e, decimals)}" for g, e in zip(groups, found, strict=True)])
            for y, estimate in zip(places, found, strict=True):
                _annotate(axes, y, estimate, decimals)
        axes.grid(visible=False, axis="y")
        axes.set_yticks([i * step + (len(series) - 1) / 2 for i in range(len(groups))], [_cut(g) for g in groups])
        axes.set_xlim(limits)
        axes.set_xlabel(unit)
        axes.invert_yaxis()
    return svg[0]


def stacked(
    groups: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    title: str,
    unit: str,
    colours: Mapping[str, str] | None = None,
) -> Markup:
    """One horizontal bar per group, made of one part per series (counts, not negative), with the sum at its end.

    `unit` stands below the axis and says what is counted. `colours` may fix the colour of a series by name. Raises
    ValueError when a series has another length than `groups`.
    """
    _check_lengths(series, len(groups))
    ends = np.zeros(len(groups))
    least = 0.06 * max(map(sum, zip(*series.values(), strict=True)), default=0)  # a part that has room for its number
    with _plot(title, 32 + 24 * len(groups), series) as (axes, svg):
        for index, (name, values) in enumerate(series.items()):
            colour = (colours or {}).get(name, PALETTE[index % len(PALETTE)])
            parts = axes.barh(range(len(groups)), values, left=ends, height=0.66, label=name, color=colour)
            _tell(parts, [f"{g}, {name}: {_number(v, 2)}" for g, v in zip(groups, values, strict=True)])
            numbers = [_number(v, 2) if v > least else "" for v in values]
            axes.bar_label(parts, numbers, label_type="center", color="white", fontsize=10)
            ends = ends + np.asarray(values, dtype=float)
        for y, end in enumerate(ends):
            _note(axes, end, y, _number(end, 2))
        axes.grid(visible=False)
        axes.set_xticks([])
        axes.set_xlabel(unit)
        axes.set_yticks(range(len(groups)), [_cut(g) for g in groups])
        axes.invert_yaxis()
    return svg[0]


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    y_limits: tuple[float, float] | None = None,
) -> Markup:
    """Curves of (x, y) points in the order given; a point that is not finite breaks its curve."""
    with _plot(title, 260, series) as (axes, svg):
        for name, points in series.items():
            xs, ys = [p[0] for p in points], [p[1] if math.isfinite(p[1]) else math.nan for p in points]
            axes.plot(xs, ys, label=name, marker="o" if len(points) <= 40 else "", markersize=4)
        axes.set(xlabel=x_label, ylabel=y_label, ylim=y_limits)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return svg[0]


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    *,
    title: str,
    limits: tuple[float, float] | None = None,
    decimals: int = 2,
    colour: str = PALETTE[0],
) -> Markup:
    """A table of shaded cells, `values[row][column]`: a confusion matrix (counts), scores, shares.

    Raises ValueError when `values` is not of shape (rows, columns).
    """
    if len(values) != len(rows) or any(len(line) != len(columns) for line in values):
        raise ValueError(f"values must have the shape ({len(rows)}, {len(columns)})")
    known = [0.0, *(v for line in values for v in line if v is not None and math.isfinite(v))]
    low, high = limits or (min(known), max(known))
    with _plot(title, 30 + 30 * len(rows)) as (axes, svg):
        for i, line in enumerate(values):
            for j, value in enumerate(line):
                share = float(np.clip(((_finite(value) or 0.0) - low) / max(high - low, 1e-9), 0, 1))
                cell = axes.barh(i, 0.96, left=j - 0.48, height=0.92, color=to_rgba(colour, 0.06 + 0.84 * share))
                _tell(cell, [f"{rows[i]}, {columns[j]}: {_number(value, decimals)}"])
                ink = "white" if share > 0.55 else _INK
                axes.text(j, i, _number(value, decimals), ha="center", va="center", color=ink)
        axes.grid(visible=False)
        axes.xaxis.tick_top()
        axes.set_xticks(range(len(columns)), [_cut(c) for c in columns])
        axes.set_yticks(range(len(rows)), [_cut(r) for r in rows])
        axes.set_xlim(-0.5, max(len(columns), 6) - 0.5)  # a narrow table keeps narrow cells
        axes.invert_yaxis()
    return svg[0]


@contextmanager
def _plot(title: str, height_px: float, series: Collection[str] = ()) -> Iterator[tuple[Axes, list[Markup]]]:
    """Axes to draw on, under a legend where there are several series; once they are left, the list holds the SVG."""
    columns = max(1, int(92 / (6 + max(map(len, series), default=0))))
    legend_px = 8 + 19 * math.ceil(len(series) / columns) if len(series) > 1 else 0
    svg: list[Markup] = []
    with mpl.rc_context(_STYLE | {"svg.hashsalt": title}):
        size = WIDTH_PX / _POINTS_PER_INCH, (height_px + legend_px) / _POINTS_PER_INCH
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.add_subplot()
        yield axes, svg
        if legend_px:
            figure.legend(loc="outside upper left", ncols=min(columns, len(series)))
        svg.append(_svg(figure, title))


def _svg(figure: Figure, title: str) -> Markup:
    """The element, which fits its page's width; its title is read out. Several stand in one page, so it leaves out the
    style that would apply to all of the page, and names that each of them would have."""
    written = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # letters that the reader's font has, not ours
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    root = ElementTree.fromstring(_NOT_IN_XML.sub("", written.getvalue()))
    for element in root.iter():  # in a page, SVG needs no namespaces
        element.tag = element.tag.removeprefix("{http://www.w3.org/2000/svg}")
        element.attrib |= {"href": link} if (link := element.attrib.pop(_XLINK_HREF, "")) else {}
    for name in ("width", "height"):
        del root.attrib[name]
    root.attrib |= {"class": "plot", "role": "img", "style": f"width: 100%; max-width: {WIDTH_PX}px"}
    for group in root.iter("g"):
        name = group.attrib.pop("id", "")
        if name.startswith(_TIP):
            ElementTree.SubElement(group, "title").text = name.removeprefix(_TIP)
    for definitions in root.findall("defs"):
        for style in definitions.findall("style"):
            definitions.remove(style)
    heading = ElementTree.Element("title")
    heading.text = title
    root.insert(0, heading)
    text = _NOT_IN_XML.sub("", ElementTree.tostring(root, encoding="unicode"))
    return Markup(text.replace(_INK, "currentColor"))


def _tell(shapes: Iterable[Artist], tips: Sequence[str]) -> None:
    """What each shape says under the pointer: all of what its label may have cut off."""
    for shape, tip in zip(shapes, tips, strict=True):
        shape.set_gid(_TIP + tip)


def _annotate(axes: Axes, y: float, found: Estimate, decimals: int) -> None:
    """The whisker of one bar, and its value as a number behind it."""
    value, low, high = (_finite(x) for x in (found.value, found.low, found.high))
    end = max(value or 0.0, 0.0)
    if value is not None and low is not None and high is not None:
        axes.errorbar((low + high) / 2, y, xerr=(high - low) / 2, ecolor=_INK, elinewidth=1.3, capsize=3, fmt="none")
        end = max(end, high)
    _note(axes, end, y, _number(value, decimals))


def _note(axes: Axes, x: float, y: float, text: str) -> None:
    axes.annotate(text, (x, y), xytext=(5, 0), textcoords="offset points", va="center", annotation_clip=False)


def _check_lengths(series: Mapping[str, Sequence[object]], n: int) -> None:
    wrong = [name for name, values in series.items() if len(values) != n]
    if wrong:
        raise ValueError(f"series {wrong[0]!r} must have {n} values, one per group")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_LABEL else text[: _LONGEST_LABEL - 1] + "…"


def _described(found: Estimate, decimals: int) -> str:
    low, high = _finite(found.low), _finite(found.high)
    interval = "" if low is None or high is None else f" ({_number(low, decimals)} to {_number(high, decimals)})"
    return _number(found.value, decimals) + interval


def _number(value: float | None, decimals: int) -> str:
    if value is None or not math.isfinite(value):
        return "n/a"
    if value == int(value) and abs(value) >= 2:
        return f"{int(value)}"
    return f"{value:.{decimals}f}"
