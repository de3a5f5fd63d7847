"""Differences and sentences on figures that are known."""

import math
from dataclasses import replace

import pytest

from embprobe.metrics.estimate import Estimate, Spread
from embprobe.metrics.intervals import student
from embprobe.metrics.table import METRICS
from embprobe.study.chance import Difference, corrected, row_difference
from embprobe.study.rows import Row
from embprobe.study.verdict import answer, differences, groups, standings
from tests.fake_study import spread

COLUMN = {c.key: c for c in METRICS}


def figure(value: float, error: float = 1.0, reference: float = 0.5) -> Estimate:
    """A figure with the standard errors of its samples and of its reference."""
    return Estimate(value, value - 2 * error, value + 2 * error, spread=spread(error, reference))


def said_of(rows: dict[str, list[Row]]) -> list[str]:
    return [str(s) for s in answer(rows, corrected(differences(rows)))]


def row(encoder: str, reference: str | None = "one", **values: Estimate) -> Row:
    return Row(encoder, values, count=1000, reference=reference)


def apart(a: Row, b: Row, key: str = "fd") -> Difference:
    found = row_difference(COLUMN[key], (a.encoder, [a]), (b.encoder, [b]))
    assert found is not None
    return found


def test_the_same_reference_cancels_and_another_does_not() -> None:
    a, b = row("a", fd=figure(10.0)), row("b", fd=figure(14.0))
    paired = apart(a, b)
    assert paired.paired and paired.value == -4 and paired.method == "choice of images, paired on the reference"
    assert (paired.low, paired.high) == pytest.approx(
        (-4 - 2.0244 * math.sqrt(2), -4 + 2.0244 * math.sqrt(2)), abs=1e-3
    )
    unpaired = apart(a, row("b", "two", fd=figure(14.0)))
    assert not unpaired.paired and unpaired.low < paired.low
    assert not apart(row("a", None, fd=figure(1.0)), row("b", None, fd=figure(2.0))).paired


def test_without_a_spread_the_two_intervals_are_taken_for_independent() -> None:
    a, b = row("a", precision=Estimate(0.5, 0.4, 0.6)), row("b", precision=Estimate(0.3, 0.25, 0.35))
    found = apart(a, b, "precision")
    assert found.high - found.value == pytest.approx(math.hypot(0.1, 0.05), rel=2e-3) and not found.paired


def test_two_equal_values_are_no_proof_of_anything() -> None:
    """Shares that agree between seeds leave out 0 only where the choice of images does."""
    still = Spread(0.5 / 1000**2, 999.0)
    a, b = (
        [Row(name, {"recall": Estimate(v, spread=still)}, training=str(t), count=1000) for t in range(2)]
        for name, v in (("a", 0.000), ("b", 0.001))
    )
    found = row_difference(COLUMN["recall"], ("a", a), ("b", b))
    assert found is not None and found.low < 0 < found.high and found.p > 0.05
    assert row_difference(COLUMN["recall"], ("a", [replace(a[0], values={})]), ("b", b)) is None


def test_a_figure_that_isn_t_reliable_has_no_difference() -> None:
    a, b = (row(n, fd_infinity=Estimate(v, v - 1, v + 1, reliable=v > 5)) for n, v in (("a", 2.0), ("b", 9.0)))
    assert differences({"a": [a], "b": [b]}) == []


def test_a_figure_without_an_interval_has_no_difference() -> None:
    assert row_difference(COLUMN["fd"], ("a", [row("a", fd=Estimate(1.0))]), ("b", [row("b", fd=figure(2.0))])) is None


def trained(name: str, *values: float, error: float = 0.001, seed: int = 0) -> tuple[str, list[Row]]:
    return name, [
        Row(name, {"fd": figure(v, error, 0.0)}, training=str(seed + i), count=1000) for i, v in enumerate(values)
    ]


def test_several_training_seeds_give_welch_s_t() -> None:
    found = row_difference(COLUMN["fd"], trained("a", 1, 2, 3), trained("b", 5, 6, 7))
    assert found is not None and found.value == -4 and found.variances["training"] == pytest.approx(2 / 3)
    assert found.method == "choice of images + seed of training"
    assert found.high - found.value == pytest.approx(2.7764 * math.sqrt(2 / 3), abs=1e-3)


def test_over_few_seeds_it_is_not_narrower_than_the_choice_of_images() -> None:
    """And seeds that agree by luck make no claim."""
    found = row_difference(COLUMN["fd"], trained("a", 5.0, 5.001, error=1.0), trained("b", 8.0, 8.001, error=1.0))
    images = math.sqrt(found.variances["images"]) if found else 0.0
    assert found is not None and images == pytest.approx(1.0)
    assert (found.high - found.low) / 2 == pytest.approx(student(76) * images, rel=1e-2)
    apart = row_difference(COLUMN["fd"], trained("a", 4.5, 5.5, error=1.0), trained("b", 7.2, 8.0, error=1.0))
    assert apart is not None and apart.high < 0 < 0.05 < apart.p


def test_the_spread_of_one_side_s_seeds_stands_for_both() -> None:
    a, b = trained("a", 10, 2, 2), trained("b", 5)
    found = row_difference(COLUMN["fd"], a, b)
    variance = 64 / 3
    assert found is not None and found.variances["training"] == pytest.approx(variance / 3 + variance)
    assert not corrected([found])[0].significant and found.value == pytest.approx(14 / 3 - 5)
    assert found.first_better  # sentence and difference are of one mean


def test_seeds_of_drawing_are_not_seeds_of_training() -> None:
    a, b = (
        (name, [replace(row, training="0") for row in trained(name, *values, error=1.0)[1]])
        for name, values in (("a", (1.0, 1.01)), ("b", (4.0, 4.01)))
    )
    found = row_difference(COLUMN["fd"], a, b)
    assert found is not None and set(found.variances) == {"images"}
    assert found.variances["images"] == pytest.approx(1.0)  # two of variance 1 on either side


def test_decoders_of_one_training_are_named_apart() -> None:
    a, b = (
        (name, [replace(r, training="0", decoding=str(i)) for i, r in enumerate(trained(name, *values)[1])])
        for name, values in (("a", (1.0, 3.0)), ("b", (4.0, 6.0)))
    )
    found = row_difference(COLUMN["fd"], a, b)
    assert found is not None and found.variances["decoder"] == pytest.approx(2.0) and "training" not in found.variances


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
    said = said_of({"ijepa": [a], "mae": [b]})
    assert said == [
        "ijepa leads mae in FD (10.0 against 20.0, by 10.0 [7.1, 12.9]).",
        "mae leads ijepa in recall (0.400 against 0.200, by 0.200 [0.171, 0.229]).",
        "mae and ijepa can't be told apart in precision (mae better by 0.010 [−0.076, 0.096]).",
    ]


def test_three_encoders_of_which_two_can_t_be_told_apart() -> None:
    rows = {name: [row(name, fd=figure(value))] for name, value in (("a", 10.0), ("b", 10.5), ("c", 30.0))}
    (standing,) = standings(rows, corrected(differences(rows)))
    assert (
        standing.best == "a"
        and [d.second for d in standing.tied] == ["b"]
        and [d.second for d in standing.behind] == ["c"]
    )
    (said,) = said_of(rows)
    assert said == (
        "a and b lead in FD and can't be told apart (a 10.0, better than b by 0.5 [−2.4, 3.4]); c is behind."
    )


def test_the_best_of_three_names_the_next() -> None:
    rows = {name: [row(name, fd=figure(value))] for name, value in (("a", 10.0), ("b", 20.0), ("c", 30.0))}
    (said,) = said_of(rows)
    assert said == "a leads both others in FD (10.0 against 20.0 of b, by 10.0 [7.1, 12.9])."


def test_a_control_is_told_apart_from_the_learned_ones() -> None:
    rows = {name: [row(name, fd=figure(value))] for name, value in (("a", 20.0), ("b", 30.0))}
    rows["pixels"] = [Row("pixels", {"fd": figure(9.0)}, count=1000, control=True)]
    said = said_of(rows)
    assert said[0].startswith("a leads b in FD")
    assert said[1] == "pixels (a control) is ahead of every learned encoder in FD."


def test_one_learned_encoder_and_none_still_say_something() -> None:
    alone = {"a": [row("a", fd=figure(20.0))]}
    assert said_of(alone) == ["a has no other to be compared with."]
    controls = {n: [Row(n, {"fd": figure(v)}, count=9, control=True)] for n, v in (("pixels", 9.0), ("random:x", 30.0))}
    assert said_of(controls)[0].startswith("pixels leads random:x in FD")
    bare = {n: [row(n, fd=Estimate(1.0))] for n in "ab"}
    assert "share no figure that has an interval" in said_of(bare)[0]


def test_eight_encoders_stay_short() -> None:
    keys = ("fd", "kid", "tv", "precision", "recall", "density", "coverage")
    rows = {f"encoder{i}": [row(f"encoder{i}", **{k: figure(10.0 * i, 1.0) for k in keys})] for i in range(1, 9)}
    assert sum(len(s.split()) for s in said_of(rows)) < 120


def test_a_figure_without_direction_names_no_winner() -> None:
    rows = {n: [row(n, authenticity=figure(v, 0.01))] for n, v in (("a", 0.1), ("b", 0.9))}
    assert len(differences(rows)) == 1 and standings(rows, differences(rows)) == []
    assert said_of(rows) == [
        "a and b differ in authenticity (a against b: 0.800 [0.771, 0.829]); neither side of that is better."
    ]


def test_many_comparisons_claim_no_more_than_one_would() -> None:
    keys = ("fd", "kid", "tv", "precision", "recall", "density", "coverage")
    rows = {n: [row(n, **{k: figure(v, 1.0, 0.0) for k in keys})] for n, v in (("a", 10.0), ("b", 13.2))}
    pairs = differences(rows)
    assert all(d.p < 0.05 for d in pairs) and not any(d.significant for d in corrected(pairs))
    assert corrected(pairs[:1])[0].significant


def test_what_is_not_usable_is_said_first_and_nobody_wins() -> None:
    a, b = row("a", fd=figure(10.0)), replace(row("b", fd=figure(90.0)), unusable=("it lies off the manifold",))
    assert said_of({"a": [a], "b": [b]}) == [
        "b is not usable yet: it lies off the manifold. It takes no part.",
        "Nobody wins. a has no other to be compared with.",
    ]
    c = row("c", fd=figure(30.0))
    assert said_of({"a": [a], "b": [b], "c": [c]})[1].startswith("a leads c in FD")


def test_the_ends_of_an_interval_show_on_which_side_of_0_they_are() -> None:
    d = Difference(COLUMN["score"], "a", "b", 0.87, 0.0004, 1.74, 0.049, {"images": 1.0}, False)
    assert d.text() == "0.87 [0.00040, 1.74]"
