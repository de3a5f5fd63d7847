"""The page's parts: text stays text, charts draw what they are given, pictures stay small."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from embprobe.page import charts, html
from embprobe.page.html import Cell, Section
from embprobe.page.pictures import grid, webp
from tests.fake_study import HOSTILE, Links


@pytest.mark.parametrize(
    "made",
    [
        html.table([HOSTILE], [[Cell(HOSTILE, HOSTILE)]], caption=HOSTILE),
        html.picture(b"", HOSTILE, (HOSTILE,)),
        html.folded(HOSTILE, html.code(HOSTILE) + html.text(HOSTILE) + html.bullets([HOSTILE])),
        html.download(HOSTILE, HOSTILE, HOSTILE),
        charts.bars({HOSTILE: {HOSTILE: (0.5, 0.4, 0.6)}}, HOSTILE),
        charts.curves({HOSTILE: [(1.0, 2.0, 1.0, 3.0), (10.0, 1.0, None, None)]}, HOSTILE, HOSTILE),
        html.page(HOSTILE, "", [Section(HOSTILE, "x")]).replace(html.page("", "", []), ""),
    ],
)
def test_hostile_words_stay_text(made: str) -> None:
    assert "<img src=x" not in made and "&lt;img src=x" in made
    assert not re.search(r'"[^"]*<img[^"]*onerror[^"]*"', made)


def test_a_policy_forbids_every_request() -> None:
    found = html.page("title", "", [Section("One", "text"), Section("Two", "")])
    assert "default-src 'none'; img-src data:" in found and "Two" not in found
    assert Links(found).found == ["data:,", "#one"]


def test_floors_stay_apart_from_what_is_sorted() -> None:
    found = html.table(["a", "b"], [[Cell("x"), Cell("1", sort=1.0)], [Cell("floor"), Cell("0", sort=0.0)]], floors=[1])
    body, floor = re.findall(r"<tbody.*?</tbody>", found, re.DOTALL)
    assert "x" in body and "floor" not in body.replace("<tbody", "") and 'class="floor"' in floor


def test_whiskers_are_drawn_only_where_there_is_an_interval() -> None:
    chart = charts.curves({"a": [(1.0, 2.0, 1.0, 3.0), (10.0, 1.0, None, None)]}, "x", "y")
    assert chart.count('stroke-width="1.5"') == 1 and chart.count("<circle") == 3  # one of them in the legend
    assert charts.curves({}, "x", "y") == "" and charts.bars({}, "y") == ""
    assert charts.svg_file(chart).startswith(b'<svg xmlns="http://www.w3.org/2000/svg"')


@pytest.mark.parametrize("low, high", [(0.0, 0.284), (0.0, 134.0), (-0.01, 0.02), (0.0, 1.0), (5.0, 5.0)])
def test_ticks_are_round_and_cover_the_points(low: float, high: float) -> None:
    scale = charts.AxisScale([(1.0, low, None, None), (10.0, high, None, None)])
    ticks = round((scale.high_y - scale.low_y) / scale.tick)
    assert scale.low_y <= low and scale.high_y >= high and 1 <= ticks <= 7
    assert float(f"{scale.tick:.2g}") == pytest.approx(scale.tick)


def test_pictures_are_lossless_where_that_is_smaller_and_never_larger_than_needed() -> None:
    flat = np.zeros((4, 32, 32, 3), np.uint8)
    data, size = webp(grid(flat, 2), 2)
    assert size == (66, 66) and (np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) == grid(flat, 2)).all()
    large = np.random.default_rng(0).integers(0, 255, (2, 256, 256, 3), np.uint8)
    assert webp(grid(large, 2), 2)[1] == (258, 128)
