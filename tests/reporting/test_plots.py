import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from reporting.plots import PALETTE, Estimate, bars, heat_map, lines, stacked

HOSTILE = "<script>alert('x')</script> $x_1$"


def parsed(markup: str) -> ElementTree.Element:
    return ElementTree.fromstring(markup)


def texts(markup: str) -> list[str]:
    return ["".join(t.itertext()) for t in parsed(markup).iter("text")]


def filled(markup: str, colour: str) -> list[list[tuple[float, float]]]:
    """The corners of each shape of a colour."""
    shapes = [p for p in parsed(markup).iter("path") if f"fill: {colour}" in p.attrib.get("style", "")]
    return [points(shape.attrib["d"]) for shape in shapes]


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] (-?[\d.]+) (-?[\d.]+)", path)]


def width(corners: list[tuple[float, float]]) -> float:
    return max(x for x, _ in corners) - min(x for x, _ in corners)


def test_a_bar_is_as_long_as_its_value() -> None:
    markup = bars(["a", "b"], {"x": [0.25, 1.0]}, title="t", unit="rows", limits=(0, 1))
    quarter, whole = (width(bar) for bar in filled(markup, PALETTE[0]))
    assert quarter == pytest.approx(whole / 4, abs=0.1)
    assert {"0.25", "1.00"} <= set(texts(markup))


def test_an_interval_is_drawn_in_its_place() -> None:
    def strokes(value: Estimate | float) -> list[list[tuple[float, float]]]:
        paths = parsed(bars(["a"], {"x": [value]}, title="t", unit="rows", limits=(0, 1))).iter("path")
        return [points(p.attrib["d"]) for p in paths if "stroke-width: 1.3" in p.attrib.get("style", "")]

    assert strokes(0.5) == []
    (whisker,) = strokes(Estimate(0.5, 0.4, 0.7))
    (bar,) = filled(bars(["a"], {"x": [0.5]}, title="t", unit="rows", limits=(0, 1)), PALETTE[0])
    start, pixels = min(x for x, _ in bar), width(bar) / 0.5  # of a unit
    assert [(x - start) / pixels for x, _ in whisker] == pytest.approx([0.4, 0.7], abs=0.03)
    assert "<title>a, x: 0.50 (0.40 to 0.70)</title>" in bars(
        ["a"], {"x": [Estimate(0.5, 0.4, 0.7)]}, title="t", unit="rows"
    )


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_what_is_not_known_is_no_zero(value: float | None) -> None:
    assert "n/a" in texts(bars(["a"], {"x": [value]}, title="t", unit="rows"))
    assert "n/a" in texts(heat_map(["r"], ["c"], [[value]], title="t"))
    assert "n/a" not in texts(bars(["a"], {"x": [0.0]}, title="t", unit="rows"))


def test_the_parts_of_a_stack_add_up() -> None:
    colours = {"kept": "#111111", "lost": "#222222"}
    markup = stacked(["a", "b"], {"kept": [6, 2], "lost": [2, 0]}, title="t", unit="rows", colours=colours)
    legend, kept_b, kept_a = sorted(width(part) for part in filled(markup, "#111111"))
    assert kept_a == pytest.approx(3 * kept_b, abs=0.5)
    assert sorted(width(part) for part in filled(markup, "#222222")) == pytest.approx([0, legend, kept_b], abs=0.2)
    assert {"8", "6", "2"} <= set(texts(markup))


def test_a_gap_breaks_a_curve() -> None:
    values = [(0, 1.0), (1, 2.0), (2, math.nan), (3, 1.0), (4, 0.5)]
    markup = lines({"loss": values}, title="t", x_label="step", y_label="loss")
    (curve,) = (
        p.attrib["d"]
        for p in parsed(markup).iter("path")
        if f"stroke: {PALETTE[0]}; stroke-width: 1.8" in p.attrib.get("style", "")
    )
    assert curve.count("M") == 2
    assert {"step", "loss"} <= set(texts(markup))


def test_higher_is_up_and_later_is_right() -> None:
    markup = lines({"x": [(0, 1.0), (5, 3.0)]}, title="t", x_label="", y_label="")
    (curve,) = (
        p.attrib["d"]
        for p in parsed(markup).iter("path")
        if f"stroke: {PALETTE[0]}; stroke-width: 1.8" in p.attrib.get("style", "")
    )
    first, last = points(curve)
    assert last[0] > first[0]
    assert last[1] < first[1]  # SVG counts downwards


def test_a_fuller_cell_is_darker() -> None:
    markup = heat_map(["a"], ["x", "y"], [[1, 9]], title="t", decimals=0)
    low, high = (float(o) for o in re.findall(rf"fill: {PALETTE[0]}; (?:fill-)?opacity: ([\d.]+)", markup))
    assert low < high


def every_plot(text: str) -> list[str]:
    return [
        bars([text], {text: [1.0], "b": [2.0]}, title=text, unit="rows"),
        stacked([text], {text: [1.0], "b": [2.0]}, title=text, unit="rows"),
        lines({text: [(0, 1.0)], "b": []}, title=text, x_label=text, y_label=text),
        heat_map([text], [text], [[1.0]], title=text),
    ]


def test_text_is_escaped_and_nothing_is_loaded() -> None:
    for markup in every_plot(HOSTILE):
        assert "<script" not in markup
        assert HOSTILE[:20] in "".join(texts(markup))  # as it was written, formulas included
        assert all(
            link.startswith("#")
            for link in re.findall(r"href=\"([^\"]*)|url\(([^)]*)", markup)
            for link in link
            if link
        )
        assert "http" not in markup
        assert parsed(markup).tag == "svg"


def test_a_name_in_any_letters_is_shown_and_warns_of_nothing(recwarn: pytest.WarningsRecorder) -> None:
    for markup in every_plot("模型\x0b"):
        assert "模型" in texts(markup)
    assert not recwarn.list


def test_plots_of_one_page_leave_each_other_and_the_page_alone() -> None:
    names = [
        element.attrib["id"] for plot in every_plot("a") for element in parsed(plot).iter() if "id" in element.attrib
    ]
    assert len(names) == len(set(names))
    assert not any("<style" in plot for plot in every_plot("a"))


def test_equal_values_give_equal_text() -> None:
    assert every_plot("a") == every_plot("a")


def test_nothing_to_show_is_still_a_plot() -> None:
    for markup in (
        bars([], {}, title="t", unit="rows"),
        stacked([], {}, title="t", unit="rows"),
        lines({}, title="t", x_label="", y_label=""),
        heat_map([], [], [], title="t"),
    ):
        assert parsed(markup).tag == "svg"


def test_a_series_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="must have 2 values"):
        bars(["a", "b"], {"x": [1.0]}, title="t", unit="rows")
    with pytest.raises(ValueError, match="shape"):
        heat_map(["a"], ["b"], [[1.0, 2.0]], title="t")
