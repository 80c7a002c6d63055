"""Plots as inline SVG: bars with intervals, stacked bars, curves, heat maps.

Every function is pure and gives `Markup` that stands in an HTML page as it is: no script, no style sheet, no link.
Text takes the page's colour, so that one plot suits a light and a dark page. Equal values give equal text.
A value that is None, NaN or infinite is shown as "n/a", never as zero.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

PALETTE = ("#3b6fb6", "#d1603d", "#3a9a7a", "#b58a1c", "#8a5fb0", "#7d7d78", "#2b93b0", "#b4517e")  # on white and black
WIDTH_PX = 720
_CHARACTER_PX = 7.3  # width of a character at 12 px in a wide face
_LINE_PX = 18
_GRID = 'stroke="currentColor" stroke-opacity="0.16"'


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
    limits: tuple[float, float] | None = None,
    decimals: int = 2,
) -> Markup:
    """Horizontal bars, one per group and series, with a whisker where a value has an interval.

    `series` maps a name to one value per group. `limits` is the axis, default: from 0 (or below) to the largest value.
    Raises ValueError when a series has another length than `groups`.
    """
    _check_lengths(series, len(groups))
    flat = [_estimate(v) for values in series.values() for v in values]
    low, high = limits or _limits([x for e in flat for x in (e.value, e.low, e.high)])
    left, bar_px, space = _label_px(groups), 13, 10
    scale = _Scale(low, high, left, WIDTH_PX - 60)
    step = bar_px * max(1, len(series)) + space
    top = _legend_px(series)
    bottom = top + step * len(groups)
    parts = [*_legend(series), _vertical_grid(scale, top, bottom)]
    for i, group in enumerate(groups):
        parts.append(_text(left - 8, top + i * step + (step - space) / 2 + 4, group, anchor="end"))
        for j, (name, values) in enumerate(series.items()):
            found = _estimate(values[i])
            tip = f"{group}, {name}: {_described(found, decimals)}"
            parts.append(_bar(found, scale, top + i * step + j * bar_px, _colour(j), tip, decimals))
    return _svg(title, parts, bottom + _LINE_PX + 4)


def stacked(
    groups: Sequence[str],
    series: Mapping[str, Sequence[float]],
    *,
    title: str,
    colours: Mapping[str, str] | None = None,
) -> Markup:
    """One horizontal bar per group, made of one part per series (counts, not negative), with the sum at its end.

    `colours` may fix the colour of a series by name. Raises ValueError when a series has another length than `groups`.
    """
    _check_lengths(series, len(groups))
    sums = [sum(values[i] for values in series.values()) for i in range(len(groups))]
    left, step = _label_px(groups), 24
    scale = _Scale(0, max([*sums, 1]), left, WIDTH_PX - 60)
    paint = [(colours or {}).get(name, _colour(i)) for i, name in enumerate(series)]
    top = _legend_px(series)
    parts = _legend(series, paint)
    for i, group in enumerate(groups):
        y, at = top + i * step, scale.low
        parts.append(_text(left - 8, y + 12, group, anchor="end"))
        for (name, values), colour in zip(series.items(), paint, strict=True):
            width = scale(at + values[i]) - scale(at)
            if values[i] > 0:
                tip = f"{group}, {name}: {_number(values[i], 2)}"
                parts.append(_rectangle(scale(at), y, width, 16, colour, tip))
            at += values[i]
        parts.append(_text(scale(at) + 6, y + 12, _number(sums[i], 2)))
    return _svg(title, parts, top + step * len(groups) + 4)


def lines(
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    y_limits: tuple[float, float] | None = None,
) -> Markup:
    """Curves of (x, y) points in the order given; a point that is not finite breaks its curve."""
    points = [p for values in series.values() for p in values if _finite(*p)]
    xs, ys = [p[0] for p in points] or [0.0, 1.0], [p[1] for p in points]
    top = _legend_px(series) + _LINE_PX
    bottom = top + 220
    across = _Scale(min(xs), max(xs), 70, WIDTH_PX - 20)
    up = _Scale(*(y_limits or _limits(ys, from_zero=False)), bottom, top)
    parts = [*_legend(series), _horizontal_grid(up, across), _x_axis(across, bottom, x_label)]
    parts.append(_text(0, top - 8, y_label))
    for i, values in enumerate(series.values()):
        parts += [_curve(run, across, up, _colour(i)) for run in _runs(values)]
    return _svg(title, parts, bottom + 2 * _LINE_PX + 4)


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
    low, high = limits or _limits([v for line in values for v in line])
    left, height, top = _label_px(rows), 30, _LINE_PX + 6
    width = min(110.0, max(44.0, _label_px(columns, limit=110)), (WIDTH_PX - left) / max(1, len(columns)))
    parts = [
        _text(left + (j + 0.5) * width, top - 8, _cut(name, width), anchor="middle", tip=name)
        for j, name in enumerate(columns)
    ]
    for i, (row, line) in enumerate(zip(rows, values, strict=True)):
        parts.append(_text(left - 8, top + i * height + 20, row, anchor="end"))
        for j, value in enumerate(line):
            share = _share(value, low, high)
            x, y = left + j * width, top + i * height
            tip = f"{row}, {columns[j]}: {_number(value, decimals)}"
            parts.append(_rectangle(x + 1, y + 1, width - 2, height - 2, colour, tip, opacity=0.06 + 0.84 * share))
            light = ' fill="#fff"' if share > 0.55 else ""
            parts.append(_text(x + width / 2, y + 20, _number(value, decimals), anchor="middle", extra=light))
    return _svg(title, parts, top + height * len(rows) + 4)


@dataclass(frozen=True, slots=True)
class _Scale:
    """Values to pixels, linear; what lies outside ends at the edge."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + _share(value, self.low, self.high) * (self.end - self.start)

    def ticks(self, n: int = 5) -> list[float]:
        """Round values within the scale, about `n` of them: steps of 1, 2 or 5 times a power of ten."""
        span = self.high - self.low
        if span <= 0:
            return [self.low]
        power = 10 ** math.floor(math.log10(span / n))
        step = next(power * m for m in (1, 2, 5, 10) if span / (power * m) <= n)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _estimate(value: Value) -> Estimate:
    return value if isinstance(value, Estimate) else Estimate(value)


def _finite(*values: float | None) -> bool:
    return all(v is not None and math.isfinite(v) for v in values)


def _share(value: float | None, low: float, high: float) -> float:
    if value is None or not math.isfinite(value) or high <= low:
        return 0.0
    return min(1.0, max(0.0, (value - low) / (high - low)))


def _limits(values: Sequence[float | None], *, from_zero: bool = True) -> tuple[float, float]:
    finite = [v for v in values if v is not None and math.isfinite(v)] or [0.0, 1.0]
    low, high = (min(0.0, *finite), max(0.0, *finite)) if from_zero else (min(finite), max(finite))
    return (low, high) if high > low else (low, low + 1)


def _check_lengths(series: Mapping[str, Sequence[object]], n: int) -> None:
    wrong = [name for name, values in series.items() if len(values) != n]
    if wrong:
        raise ValueError(f"series {wrong[0]!r} must have {n} values, one per group")


def _label_px(labels: Sequence[str], limit: int = 240) -> float:
    return min(limit, 12 + _CHARACTER_PX * max((len(x) for x in labels), default=0))


def _cut(text: str, width: float) -> str:
    fits = max(3, int(width / _CHARACTER_PX))
    return text if len(text) <= fits else text[: fits - 1] + "…"


def _number(value: float | None, decimals: int) -> str:
    if value is None or not math.isfinite(value):
        return "n/a"
    if value == int(value) and abs(value) >= 2:
        return f"{int(value)}"
    return f"{value:.{decimals}f}"


def _tick(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e5 else f"{value:.1e}"


def _described(found: Estimate, decimals: int) -> str:
    interval = ""
    if _finite(found.low, found.high):
        interval = f" ({_number(found.low, decimals)} to {_number(found.high, decimals)})"
    return _number(found.value, decimals) + interval


def _colour(index: int) -> str:
    return PALETTE[index % len(PALETTE)]


def _text(x: float, y: float, text: str, *, anchor: str = "start", extra: str = "", tip: str = "") -> str:
    """One line of text, cut where it would run over the left edge."""
    shown = _cut(text, x) if anchor == "end" else text
    tip = text if shown != text and not tip else tip
    note = f"<title>{escape(tip)}</title>" if tip else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{note}{escape(shown)}</text>'


def _rectangle(x: float, y: float, width: float, height: float, colour: str, tip: str, *, opacity: float = 1.0) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" height="{height:.1f}" fill="{colour}" '
        f'fill-opacity="{opacity:.2f}"><title>{escape(tip)}</title></rect>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, style: str = _GRID) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {style}/>'


def _bar(found: Estimate, scale: _Scale, y: float, colour: str, tip: str, decimals: int) -> str:
    zero = scale(min(max(0.0, scale.low), scale.high))
    if not _finite(found.value):
        return _text(zero + 4, y + 10, "n/a", extra=' fill-opacity="0.6"')
    end = scale(found.value or 0.0)
    parts = [_rectangle(min(zero, end), y, abs(end - zero), 11, colour, tip)]
    label_at = max(end, zero)
    if _finite(found.low, found.high):
        low, high = scale(found.low or 0.0), scale(found.high or 0.0)
        ink = 'stroke="currentColor" stroke-width="1.3"'
        parts += [_line(low, y + 5.5, high, y + 5.5, ink), _line(low, y + 2.5, low, y + 8.5, ink)]
        parts.append(_line(high, y + 2.5, high, y + 8.5, ink))
        label_at = max(end, high, zero)
    parts.append(_text(label_at + 5, y + 10, _number(found.value, decimals)))
    return "".join(parts)


def _vertical_grid(scale: _Scale, top: float, bottom: float) -> str:
    lines_ = [_line(scale(t), top - 4, scale(t), bottom) for t in scale.ticks()]
    faint = ' fill-opacity="0.7"'
    texts = [_text(scale(t), bottom + 14, _tick(t), anchor="middle", extra=faint) for t in scale.ticks()]
    return "".join(lines_ + texts)


def _horizontal_grid(up: _Scale, across: _Scale) -> str:
    lines_ = [_line(across.start, up(t), across.end, up(t)) for t in up.ticks()]
    texts = [_text(across.start - 8, up(t) + 4, _tick(t), anchor="end") for t in up.ticks()]
    return "".join(lines_ + texts)


def _x_axis(across: _Scale, bottom: float, label: str) -> str:
    texts = [_text(across(t), bottom + 16, _tick(t), anchor="middle") for t in across.ticks(6)]
    return "".join([*texts, _text((across.start + across.end) / 2, bottom + 33, label, anchor="middle")])


def _runs(points: Sequence[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if _finite(*point):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _curve(points: Sequence[tuple[float, float]], across: _Scale, up: _Scale, colour: str) -> str:
    places = [(across(x), up(y)) for x, y in points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in places if len(places) <= 40]
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>' + "".join(dots)


def _legend_px(series: Mapping[str, object]) -> float:
    return 8 if len(series) < 2 else _LINE_PX * len(_legend_rows(series)) + 10


def _legend_rows(series: Mapping[str, object]) -> list[list[tuple[int, str, float]]]:
    """(index, name, x) of the legend's entries, line by line."""
    rows: list[list[tuple[int, str, float]]] = [[]]
    x = 0.0
    for index, name in enumerate(series):
        width = 28 + _CHARACTER_PX * len(name)
        if rows[-1] and x + width > WIDTH_PX:
            rows.append([])
            x = 0.0
        rows[-1].append((index, name, x))
        x += width
    return rows


def _legend(series: Mapping[str, object], colours: Sequence[str] = ()) -> list[str]:
    """A coloured square and a name per series; nothing for one series, which the title names."""
    if len(series) < 2:
        return []
    parts = []
    for line, row in enumerate(_legend_rows(series)):
        for index, name, x in row:
            colour = colours[index] if colours else _colour(index)
            parts.append(_rectangle(x, 2 + line * _LINE_PX, 11, 11, colour, name))
            parts.append(_text(x + 16, 12 + line * _LINE_PX, name))
    return parts


def _svg(title: str, parts: Sequence[str], height: float) -> Markup:
    """The element; its title is read out and shown when nothing more precise is under the pointer."""
    return Markup(  # every text in `parts` was escaped when it was made
        f'<svg class="plot" role="img" viewBox="0 0 {WIDTH_PX} {height:.0f}" width="100%" '
        f'style="max-width:{WIDTH_PX}px" font-size="12" font-family="inherit" fill="currentColor">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
