"""Seeds of one encoder are a row, its interval that of the differences."""

import pytest

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.intervals import student
from embprobe.study.chance import mean_estimate
from embprobe.study.rows import Row
from embprobe.study.seeds import averaged_rows
from embprobe.study.table import short_table
from tests.fake_study import spread


def rows(*values: float, error: float = 1.0) -> list[Row]:
    return [
        Row("mae", {"fd": Estimate(v, v - 2 * error, v + 2 * error, Estimate(1.0), spread(error))}, seed=f"seed {i}",
            training=str(i), decoding="0", count=100)
        for i, v in enumerate(values)
    ]  # fmt: skip


def test_seeds_are_one_row_and_folded_under_it_and_floors_stay_apart() -> None:
    told = [*rows(10.0, 12.0, 14.0), Row("ijepa", {}), Row("real", {}, kind="real"), Row("real", {}, kind="real")]
    folded = averaged_rows(told)
    assert [r.label for r in folded.rows] == [
        "mae, mean of 3 seeds", "mae, seed 0", "mae, seed 1", "mae, seed 2", "ijepa", "real", "real",
    ]  # fmt: skip
    assert folded.under == {1: 0, 2: 0, 3: 0} and folded.rows[0].values["fd"].value == 12.0
    assert len(folded.shown) == 4 and folded.rows[0].count == 100 and averaged_rows(told[3:]).under == {}


def test_the_means_interval_is_over_images_or_over_seeds_whichever_is_wider() -> None:
    alike = mean_estimate(rows(12.0, 12.1, 11.9), "fd")
    assert alike is not None and alike.high is not None
    assert alike.high - alike.value == pytest.approx(
        student(57) * (1 / 3) ** 0.5, rel=1e-3
    )  # 3 rows of 19 degrees each
    apart = mean_estimate(rows(2.0, 12.0, 22.0), "fd")
    assert apart is not None and apart.high is not None
    assert apart.high - apart.value == pytest.approx(student(2) * 10 / 3**0.5)
    assert apart.floor == Estimate(1.0)


def test_one_row_keeps_its_own_interval_and_one_without_an_interval_has_none() -> None:
    (alone,) = rows(12.0)
    assert mean_estimate([alone], "fd") == alone.values["fd"] and mean_estimate([alone], "kid") is None
    bare = mean_estimate([Row("a", {"fd": Estimate(v)}) for v in (1.0, 3.0)], "fd")
    assert bare == Estimate(2.0)


def test_the_short_table_fits_into_a_terminal() -> None:
    keys = ("fd", "kid", "precision", "recall", "score", "coverage", "density", "linear", "latent_fd")
    wide = {key: Estimate(7650289.6235, 7650289.6235 - 831933.95, 7650289.6235 + 831933.95) for key in keys}
    few = short_table([Row("an encoder of a very long name indeed", wide)])
    assert few["rows"][0][1] == "7.65e6 ±8e5" and few["rows"][0][0].endswith("…")
    widths = [max(len(h), len(c)) for h, c in zip(few["headers"], few["rows"][0], strict=True)]
    assert sum(widths) + 2 * (len(widths) - 1) <= 100 and few["headers"][:3] == ["encoder", "FD ↓", "KID ↓"]
    assert len(few["headers"]) >= 6
