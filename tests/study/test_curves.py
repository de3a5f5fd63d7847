"""Areas and epochs on lines that are known."""

import math

import pytest

from embprobe.metrics.estimate import Estimate
from embprobe.study.curves import Point, area, curve_summary, epochs_until, shared_range


def test_the_area_is_a_mean_over_log_epochs() -> None:
    assert area([(1, 5.0), (10, 5.0), (100, 5.0)], (1, 100)) == pytest.approx(5.0)
    assert area([(1, 10.0), (100, 0.0)], (1, 100)) == pytest.approx(5.0)
    assert area([(1, 10.0), (10, 0.0), (100, 0.0)], (1, 100)) == pytest.approx(2.5)


def test_the_area_is_cut_to_the_range_that_all_share() -> None:
    long, short = [(1, 10.0), (100, 0.0)], [(10, 7.0), (1000, 7.0)]
    assert shared_range([long, short]) == (10, 100)
    assert area(long, (10, 100)) == pytest.approx(2.5)
    assert shared_range([[(1, 1.0), (2, 1.0)], [(3, 1.0), (4, 1.0)]]) is None and shared_range([]) is None


def test_epochs_until_are_log_linear_between_milestones() -> None:
    line = [(1, 30.0), (100, 10.0), (1000, 5.0)]
    assert epochs_until(line, 20.0) == pytest.approx(10.0)
    assert epochs_until(line, 10.0) == pytest.approx(100.0)
    assert epochs_until(line, 40.0) == 1
    assert epochs_until(line, 4.0) is None


def test_the_target_is_the_worst_last_fd_so_that_every_row_reaches_it() -> None:
    def line(*values: float) -> list[Point]:
        return [Point(10.0**i, Estimate(v), 100) for i, v in enumerate(values)]

    told = curve_summary({"fd": {"a": line(30, 10), "b": line(40, 20)}}, None)
    assert told["target"] == 20 and told["rows"]["b"]["epochs_until"] == pytest.approx(10.0)
    assert told["rows"]["a"]["epochs_until"] == pytest.approx(math.sqrt(10))
    assert curve_summary({"fd": {"a": line(30, 10)}}, 5.0)["rows"]["a"]["epochs_until"] is None
    assert curve_summary({}, None)["rows"] == {}
