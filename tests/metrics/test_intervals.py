"""Intervals cover what they should."""

import numpy as np
import pytest
import torch

from embprobe.evaluation.figures import estimate, means_left_out
from embprobe.metrics.intervals import centred, difference, jackknife, wilson


def test_wilson_covers_a_share_and_holds_at_the_ends():
    for share in (0.1, 0.3, 0.5):
        draws = np.random.default_rng(0).binomial(80, share, 3000)
        covered = [wilson(int(d), 80)[0] <= share <= wilson(int(d), 80)[1] for d in draws]
        assert 0.92 <= sum(covered) / len(covered) <= 0.98
    assert wilson(0, 50)[0] == 0 and wilson(0, 50)[1] > 0
    assert wilson(50, 50)[1] == 1 and wilson(50, 50)[0] < 1


def test_the_jackknife_error_of_a_mean_is_the_standard_error():
    x = torch.randn(2000, generator=torch.Generator().manual_seed(0)).double()
    error = jackknife(lambda rows: float(x[rows].mean()), len(x), groups=100)
    assert error == pytest.approx(float(x.std()) / 2000**0.5, rel=0.2)
    low, high = centred(1.0, 0.5, groups=20)
    assert (low, high) == pytest.approx((1 - 0.5 * 2.093, 1 + 0.5 * 2.093), abs=1e-3)


DRAWS = 500


def shares(rng: np.random.Generator, share: float, count: int) -> list[tuple[float, float]]:
    return [wilson(int(rng.binomial(count, share)), count) for _ in range(DRAWS)]


@pytest.mark.parametrize(("share", "count"), [(0.02, 1000), (0.1, 1000), (0.5, 200), (0.9, 400), (0.98, 1000)])
def test_intervals_of_shares_cover_the_truth(share: float, count: int):
    covered = [low <= share <= high for low, high in shares(np.random.default_rng(0), share, count)]
    assert 0.92 <= np.mean(covered) <= 0.98


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_at_the_ends_an_interval_holds_the_truth_and_has_a_width(share: float):
    low, high = wilson(round(100 * share), 100)
    assert low <= share <= high and high - low > 0.03


def test_intervals_of_skewed_means_cover_the_truth():
    covered = []
    for seed in range(DRAWS):
        values = torch.from_numpy(np.random.default_rng(seed).gamma(2.0, 0.5, 400))
        density = estimate("density", float(values.mean()), {"samples": means_left_out(values, seed=0)})
        assert density.ends is not None
        covered.append(density.ends[0] <= 1.0 <= density.ends[1])
    assert 0.92 <= np.mean(covered) <= 0.98


def test_what_both_owe_to_the_same_reference_cancels_in_their_difference():
    """Statistics are means of samples less that of the reference; the reference is much noisier than the samples."""
    paired, apart, widths = [], [], []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        reference = torch.from_numpy(rng.normal(0, 5, 200))
        sides = []
        for mean in (1.0, 0.0):
            samples = torch.from_numpy(rng.normal(mean, 1, 200))
            value = float(samples.mean() - reference.mean())
            jackknife_of_side = {
                "samples": [v - float(reference.mean()) for v in means_left_out(samples, 0)],
                "reference": [float(samples.mean()) - v for v in means_left_out(reference, 1)],
            }
            sides += [value, jackknife_of_side]
        value, low, high = difference(*sides, paired=True)
        _, far_low, far_high = difference(*sides, paired=False)
        paired.append(low <= 1.0 <= high)
        apart.append(far_low <= 1.0 <= far_high)
        widths.append((far_high - far_low) / (high - low))
    assert 0.92 <= np.mean(paired) <= 0.98
    assert np.mean(apart) == 1.0 and np.mean(widths) > 3


def test_without_a_jackknife_there_is_no_difference():
    assert difference(1.0, None, 2.0, {"samples": [1.0, 2.0]}, paired=True) is None
