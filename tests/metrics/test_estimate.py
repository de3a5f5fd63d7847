"""Estimates survive JSON, and say what they lack."""

import json
import math
import subprocess
import sys

import pytest

from embprobe.metrics.estimate import Estimate, Spread

SPREAD = Spread(0.01, 19.0, (0.1, -0.3), 0.25, 0.002)
FULL = Estimate(1.5, 1.0, 2.0, Estimate(0.5, 0.4, 0.6), SPREAD, False, {"count": 7})


def test_an_estimate_comes_back_from_json() -> None:
    again = Estimate.of(json.loads(json.dumps(FULL.json())))
    assert again == FULL and again.spread == FULL.spread and again.facts == {"count": 7}


def test_the_spread_can_stay_behind() -> None:
    assert FULL.json().keys() - FULL.json(spread=False).keys() == {"spread"}


def test_the_reference_adds_what_its_contrasts_say_less_their_noise() -> None:
    assert SPREAD.of_reference == pytest.approx(0.25 * 0.05 - 0.002)
    assert SPREAD.variance == pytest.approx(0.01 + 0.0105)
    assert Spread(1.0, 9.0, (0.1,), 1.0, noise=0.5).of_reference == 0.0


def test_what_is_not_there_is_none() -> None:
    bare = Estimate.of({"value": 2.0})
    assert bare == Estimate(2.0) and bare.ends is None and bare.floor is None and bare.spread is None and bare.reliable
    assert bare.json() == {"value": 2.0, "low": None, "high": None, "floor": None}
    assert Estimate(1.0, low=0.5).ends is None and Estimate(1.0, 0.5, 1.5).ends == (0.5, 1.5)


def test_an_estimate_that_is_reliable_does_not_say_so() -> None:
    assert "reliable" not in Estimate(1.0).json() and Estimate(1.0, reliable=False).json()["reliable"] is False


def test_the_table_and_estimates_need_neither_torch_nor_numpy() -> None:
    without = "import sys; sys.modules['torch'] = sys.modules['numpy'] = None; "
    code = without + "import embprobe.metrics.estimate, embprobe.metrics.table"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_not_a_number_is_written_as_it_is_for_the_store_to_make_null() -> None:
    assert math.isnan(Estimate(math.nan).json()["value"])


def test_a_floor_that_an_earlier_version_wrote_is_its_value() -> None:
    assert Estimate.of({"value": 2.0, "floor": 0.5, "jackknife": {}}).floor == Estimate(0.5)
    assert Estimate.of({"value": 2.0, "floor": 0.0}).floor == Estimate(0.0)
