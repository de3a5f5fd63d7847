"""The forest plot places what it is given, says it in words too, and fits its two widths."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from embprobe.page.forest import NARROW, WIDE, Forest, ForestRow, Layout, forest_figure, forest_plot

HOSTILE = "<img src=x>"
ROWS = [
    ForestRow("FD", 90.0, 10.0, {"a": (50.0, 40.0, 60.0), "b": (10.0, None, None), "c": (170.0, 160.0, 180.0)},
              "40.0 [30.0, 50.0]", "b"),
    ForestRow("precision", 0.0, 0.8, {"a": (0.4, 0.3, 0.5), "b": (0.9, 0.85, 0.95)}, "0.1 [−0.1, 0.3]"),
]  # fmt: skip
FOREST = Forest(["a", "b", "c"], frozenset({"c"}), ROWS, "Gaussian latents", frozenset({"a"}))
both = pytest.mark.parametrize("layout", [WIDE, NARROW], ids=lambda layout: layout.name)


def drawn(layout: Layout, forest: Forest = FOREST) -> str:
    return forest_plot(forest, layout)


@both
def test_left_is_the_worst_and_right_are_real_images_whichever_way_is_better(layout: Layout) -> None:
    first, second, *_ = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', drawn(layout))[1:]]
    middle = (layout.left + layout.right) / 2
    assert first == second == pytest.approx(middle)  # half way in both, though FD falls and precision rises
    (square,) = re.findall(rf'<rect x="({layout.right - 3.4:.1f})"', drawn(layout))
    assert float(square) == pytest.approx(layout.right - 3.4)


@both
def test_what_lies_beyond_the_scale_is_an_arrow_at_its_end(layout: Layout) -> None:
    arrows = re.findall(r'<polygon points="([\d.]+),[\d.]+ ([\d.]+)', drawn(layout))
    tips = [(float(tip), float(back)) for tip, back in arrows]
    assert (layout.left - 5.0, layout.left + 5.0) in tips  # worse than the worst
    assert (layout.right + 5.0, layout.right - 5.0) in tips  # better than real
    places = [float(v) for v in re.findall(r' x[12]?="([\d.]+)"', drawn(layout))]
    assert min(places) >= 0 and max(places) <= layout.width


@both
def test_it_is_told_in_words_and_is_well_formed(layout: Layout) -> None:
    hostile = Forest([HOSTILE], frozenset(), [ForestRow(HOSTILE, 1.0, 0.0, {HOSTILE: (0.5, 0.4, 0.6)})], "worst")
    for forest in (FOREST, hostile):
        root = ElementTree.fromstring(drawn(layout, forest))
        title, told = root[0], root[1]
        assert root.get("role") == "img" and root.get("aria-labelledby") == f"{title.get('id')} {told.get('id')}"
        assert not root.findall(".//img")
    words = ElementTree.fromstring(drawn(layout))[1].text
    assert words is not None and "FD (worst 90.00, real 10.00): a 50.00 ±10, b 10.00" in words
    assert "b leads: 40.0 [30.0, 50.0]" in words and "nobody leads" in words


def test_the_narrow_one_is_as_wide_as_a_phone_and_eight_encoders_have_a_line_each() -> None:
    names = [f"encoder-{i}" for i in range(8)]
    many = Forest(names, frozenset(), [ForestRow("FD", 9.0, 1.0, dict.fromkeys(names, (5.0, 4.0, 6.0)))], "worst")
    for layout in (WIDE, NARROW):
        whiskers = re.findall(r'y1="([\d.]+)" y2="\1" stroke-width="2"', drawn(layout, many))
        places = sorted(map(float, whiskers))
        assert len(places) == 8 and min(b - a for a, b in pairwise(places)) >= 12
    assert NARROW.width <= 360 and forest_figure(many).count("<svg") == 2


def test_who_is_not_usable_is_called_so_and_a_row_with_another_worst_too() -> None:
    assert "a – not usable yet" in drawn(WIDE)
    other = Forest(["a"], frozenset(), [ForestRow("tv", 1.0, 0.0, {"a": (0.5, None, None)}, of_rows=True)], "Gaussian")
    assert "1.00 (worst row) … 0" in drawn(WIDE, other) and "tv (left: worst row)" in drawn(NARROW, other)
