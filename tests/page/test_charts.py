"""Charts draw what they are given."""

import re

import pytest

from embprobe.page import charts


def test_whiskers_are_drawn_only_where_there_is_an_interval() -> None:
    chart = charts.curves({"a": [(1.0, 2.0, 1.0, 3.0), (10.0, 1.0, None, None)]}, "x", "y")
    assert chart.count('stroke-width="1.5"') == 1 and chart.count("<circle") == 3  # one of them in the legend
    assert charts.curves({}, "x", "y") == "" and charts.bars({}, "y") == ""


@pytest.mark.parametrize("low, high", [(0.0, 0.284), (0.0, 134.0), (-0.01, 0.02), (0.0, 1.0), (5.0, 5.0)])
def test_ticks_are_round_and_cover_the_points(low: float, high: float) -> None:
    scale = charts.AxisScale([(1.0, low, None, None), (10.0, high, None, None)])
    ticks = round((scale.high_y - scale.low_y) / scale.tick)
    assert scale.low_y <= low and scale.high_y >= high and 1 <= ticks <= 7
    assert float(f"{scale.tick:.2g}") == pytest.approx(scale.tick)


def test_a_bar_has_its_interval_and_ends_at_the_axis() -> None:
    chart = charts.bars({"hue": {"mae": (0.5, 0.4, 0.6), "ijepa": (1.5, None, None)}}, "R²")
    assert chart.count("<title>") == 2 and chart.count('stroke="currentColor"') == 1
    widths = [float(width) for width in re.findall(r'width="([\d.]+)" height="[\d.]+" fill="#\w+"><title>', chart)]
    assert widths[1] == pytest.approx(2 * widths[0], rel=0.01)  # 1.5 is drawn as 1
