"""The page's HTML: text stays text, nothing is asked of anyone, floors stay below."""

import re

import pytest

from embprobe.page import charts, html
from embprobe.page.html import Cell, Section
from tests.fake_study import HOSTILE, Links


@pytest.mark.parametrize(
    "made",
    [
        html.table([HOSTILE], [[Cell(HOSTILE, HOSTILE)]], caption=HOSTILE),
        html.picture(b"", HOSTILE, (HOSTILE,)),
        html.folded(HOSTILE, html.code(HOSTILE, HOSTILE) + html.text(HOSTILE) + html.bullets([HOSTILE])),
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
    found = html.page("title", "", [Section("The answer", "text"), Section("One", "text"), Section("Two", "")])
    assert "default-src 'none'; img-src data:" in found and "Two" not in found  # the first needs no link
    assert Links(found).found == ["data:,", "#one"]


def test_floors_stay_apart_from_what_is_sorted() -> None:
    found = html.table(["a", "b"], [[Cell("x"), Cell("1", sort=1.0)], [Cell("floor"), Cell("0", sort=0.0)]], floors=[1])
    body, floor = re.findall(r"<tbody.*?</tbody>", found, re.DOTALL)
    assert "x" in body and "floor" not in body.replace("<tbody", "") and 'class="floor"' in floor
