"""Figures of one set against another: they lie within their intervals, and these within their bounds."""

import pytest
import torch
from torch import Tensor

from embprobe.evaluation import figures
from embprobe.evaluation.figures import estimate, share
from embprobe.evaluation.output import JudgeOutput
from embprobe.metrics.estimate import Estimate, Spread
from embprobe.metrics.kernel import kernel_distance
from tests.evaluation.test_reports import seen


def test_a_set_against_itself_is_perfect() -> None:
    part = seen(60, 0)
    found = figures.figures(part.output, part.output, 3, errors=False)
    assert found["fd"].value == pytest.approx(0, abs=1e-6) and found["kid"].value <= 0 and found["tv"].value == 0
    assert found["precision"].value == found["recall"].value == found["coverage"].value == 1
    assert found["fd"].ends is None and "fd_infinity" not in found


# ---- estimates


def test_intervals_end_where_the_metric_ends() -> None:
    wide = Spread(25.0, 9.0)
    assert estimate("tv", 0.5, wide).ends == (0.0, 1.0)
    score = estimate("score", 1.1, wide)
    assert score.low == 1.0 and score.high is not None and score.high > 2
    kid = estimate("kid", 0.0, wide)
    assert kid.low is not None and kid.low < 0
    assert estimate("fd", 1.0, None) == Estimate(1.0)


def hits(*values: int) -> Tensor:
    return torch.tensor(values).bool()


@pytest.mark.parametrize("by_sample", [True, False])
def test_a_share_of_none_or_of_all_still_has_a_width(by_sample: bool) -> None:
    still = torch.zeros(32, 2, 2, dtype=torch.float64)
    for found in (share("recall", hits(*[v] * 200), still, by_sample=by_sample) for v in (0, 1)):
        assert found.spread is not None and found.spread.samples >= 0.5 / 201**2
        assert found.ends is not None and found.ends[1] - found.ends[0] > 0.01
    known = share("precision", hits(1, 1, 0, 1), None, by_sample=by_sample)
    assert known.value == 0.75 and known.ends is not None and known.ends[0] < 0.75 < known.ends[1]


def test_kid_on_a_common_scale_does_not_depend_on_the_features_own() -> None:
    x, y = seen(60, 0).output, seen(60, 1).output
    found = [
        figures.distances(x.features * by, y.features * by, False, False, common_scale=True)["kid"].value
        for by in (1.0, 1000.0)
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    raw = figures.distances(x.features, y.features, False, False)["kid"].value
    assert raw == kernel_distance(x.features, y.features) != found[0]


def test_scores_have_no_part_of_the_reference() -> None:
    found = figures.figures(seen(60, 0).output, seen(60, 1).output, 3)
    assert found["score"].spread is not None and found["score"].spread.reference == ()
    assert found["tv"].spread is not None and len(found["tv"].spread.reference) == figures.REPEATS
    assert JudgeOutput(torch.zeros(1), None).probabilities is None
