"""Differences and sentences on figures that are known."""

import math

import pytest

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.table import METRICS
from embprobe.study.rows import Row
from embprobe.study.verdict import Difference, answer, differences, groups, row_difference, standings
from tests.fake_study import around

COLUMN = {c.key: c for c in METRICS}


def figure(value: float, error: float = 1.0, reference: float = 0.5) -> Estimate:
    """A figure with the jackknife errors of its samples and of its reference."""
    left = {"samples": around(value, error), "reference": around(value, reference)}
    return Estimate(value, value - 2 * error, value + 2 * error, jackknife=left)


def row(encoder: str, reference: str | None = "one", **values: Estimate) -> Row:
    return Row(encoder, values, count=1000, reference=reference)


def apart(a: Row, b: Row, key: str = "fd") -> Difference:
    found = row_difference(COLUMN[key], (a.encoder, [a]), (b.encoder, [b]))
    assert found is not None
    return found


def test_the_same_reference_cancels_and_another_does_not() -> None:
    a, b = row("a", fd=figure(10.0)), row("b", fd=figure(14.0))
    paired = apart(a, b)
    assert paired.method == "paired" and paired.value == -4
    assert (paired.low, paired.high) == pytest.approx(
        (-4 - 2.0244 * math.sqrt(2), -4 + 2.0244 * math.sqrt(2)), abs=1e-3
    )
    unpaired = apart(a, row("b", "two", fd=figure(14.0)))
    assert unpaired.method == "unpaired" and unpaired.low < paired.low
    assert apart(row("a", None, fd=figure(1.0)), row("b", None, fd=figure(2.0))).method == "unpaired"


def test_without_a_jackknife_the_two_intervals_are_taken_for_independent() -> None:
    a, b = row("a", precision=Estimate(0.5, 0.4, 0.6)), row("b", precision=Estimate(0.3, 0.25, 0.4))
    found = apart(a, b, "precision")
    assert found.method == "intervals"
    assert (found.low, found.high) == pytest.approx((0.2 - math.hypot(0.1, 0.1), 0.2 + math.hypot(0.1, 0.05)))


def test_a_share_of_0_or_1_keeps_the_width_of_its_interval() -> None:
    still = {"samples": [0.0] * 20, "reference": [0.0] * 20}
    none, some = (
        Estimate(0.0, 0.0, 0.004, jackknife=still),
        Estimate(0.003, 0.001, 0.009, jackknife={"samples": around(0.003, 0.0001)}),
    )
    found = apart(row("a", recall=none), row("b", recall=some), "recall")
    assert found.method == "intervals" and not found.significant
    assert (found.low, found.high) == pytest.approx((-0.009, -0.003 + math.hypot(0.004, 0.002)))


def test_a_figure_that_isn_t_reliable_has_no_difference() -> None:
    a, b = (row(n, fd_infinity=Estimate(v, v - 1, v + 1, reliable=v > 5)) for n, v in (("a", 2.0), ("b", 9.0)))
    assert differences({"a": [a], "b": [b]}) == []


def test_a_figure_without_an_interval_has_no_difference() -> None:
    assert row_difference(COLUMN["fd"], ("a", [row("a", fd=Estimate(1.0))]), ("b", [row("b", fd=figure(2.0))])) is None


def test_several_training_seeds_give_welch_s_t() -> None:
    a, b = (
        [Row(name, {"fd": figure(v)}, seed=f"seed {v}") for v in values]
        for name, values in (("a", (1, 2, 3)), ("b", (5, 6, 7)))
    )
    found = row_difference(COLUMN["fd"], ("a", a), ("b", b))
    assert found is not None and found.method == "seeds" and found.value == -4
    assert found.high - found.value == pytest.approx(2.7764 * math.sqrt(2 / 3), abs=1e-3)


def test_figures_that_depend_on_the_count_are_not_compared_at_different_counts() -> None:
    a = Row("a", {"fd": figure(1.0), "kid": figure(1.0)}, count=1000)
    b = Row("b", {"fd": figure(9.0), "kid": figure(9.0)}, count=400)
    assert [d.column.key for d in differences({"a": [a], "b": [b]})] == ["kid"]


def test_only_rows_drawn_the_same_way_are_compared_and_floors_never() -> None:
    rows = [Row("a", {}), Row("b", {}, how="guidance 3"), Row("c", {}, kind="reconstructions"), Row("d", {})]
    assert {how: list(group) for how, group in groups(rows).items()} == {"": ["a", "d"], "guidance 3": ["b"]}


def test_two_encoders_in_sentences() -> None:
    a = row("ijepa", fd=figure(10.0), precision=figure(0.80, 0.03, 0.0), recall=figure(0.2, 0.01, 0.0))
    b = row("mae", fd=figure(20.0), precision=figure(0.81, 0.03, 0.0), recall=figure(0.4, 0.01, 0.0))
    said = [str(s) for s in answer({"ijepa": [a], "mae": [b]})]
    assert said == [
        "ijepa leads mae in FD (10.0 against 20.0, by 10.0 [7.1, 12.9]).",
        "mae leads ijepa in recall (0.400 against 0.200, by 0.200 [0.171, 0.229]).",
        "mae and ijepa can't be told apart in precision (mae better by 0.010 [−0.076, 0.096]).",
    ]


def test_three_encoders_of_which_two_can_t_be_told_apart() -> None:
    rows = {name: [row(name, fd=figure(value))] for name, value in (("a", 10.0), ("b", 10.5), ("c", 30.0))}
    (standing,) = standings(rows)
    assert (
        standing.best == "a"
        and [d.second for d in standing.tied] == ["b"]
        and [d.second for d in standing.behind] == ["c"]
    )
    (said,) = answer(rows)
    assert str(said) == (
        "a and b lead in FD and can't be told apart (a 10.0, better than b by 0.5 [−2.4, 3.4]); c is behind."
    )


def test_the_best_of_three_names_the_next() -> None:
    rows = {name: [row(name, fd=figure(value))] for name, value in (("a", 10.0), ("b", 20.0), ("c", 30.0))}
    (said,) = answer(rows)
    assert str(said) == "a leads both others in FD (10.0 against 20.0 of b, by 10.0 [7.1, 12.9])."


def test_a_control_is_told_apart_from_the_learned_ones() -> None:
    rows = {name: [row(name, fd=figure(value))] for name, value in (("a", 20.0), ("b", 30.0))}
    rows["pixels"] = [Row("pixels", {"fd": figure(9.0)}, count=1000, control=True)]
    said = [str(s) for s in answer(rows)]
    assert said[0].startswith("a leads b in FD")
    assert said[1] == "pixels (a control) is ahead of every learned encoder in FD."


def test_one_learned_encoder_and_none_still_say_something() -> None:
    alone = {"a": [row("a", fd=figure(20.0))]}
    assert [str(s) for s in answer(alone)] == ["a is the only learned encoder here."]
    controls = {n: [Row(n, {"fd": figure(v)}, control=True)] for n, v in (("pixels", 9.0), ("random:x", 30.0))}
    assert str(answer(controls)[0]).startswith("pixels leads random:x in FD")
    bare = {n: [row(n, fd=Estimate(1.0))] for n in "ab"}
    assert "share no figure with an interval" in str(answer(bare)[0])


def test_eight_encoders_stay_short() -> None:
    keys = ("fd", "kid", "tv", "precision", "recall", "density", "coverage")
    rows = {f"encoder{i}": [row(f"encoder{i}", **{k: figure(10.0 * i, 1.0) for k in keys})] for i in range(1, 9)}
    assert sum(len(str(s).split()) for s in answer(rows)) < 120


def test_a_figure_without_direction_names_no_winner() -> None:
    rows = {n: [row(n, authenticity=figure(v, 0.01))] for n, v in (("a", 0.1), ("b", 0.9))}
    assert len(differences(rows)) == 1 and standings(rows) == []
