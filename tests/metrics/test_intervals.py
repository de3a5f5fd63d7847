"""Intervals cover what they should."""

import numpy as np
import pytest
import torch

from embprobe.metrics.estimate import Spread
from embprobe.metrics.intervals import (
    averaged,
    centred,
    holm,
    interval,
    jackknife,
    left_out,
    sampling,
    share_interval,
    student,
    two_tailed,
    wilson,
)


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


def means_left_out(values: torch.Tensor, groups: int = 20) -> list[float]:
    return [float(values[torch.arange(len(values)) % groups != g].mean()) for g in range(groups)]


def test_intervals_of_skewed_means_cover_the_truth():
    covered = []
    for seed in range(DRAWS):
        values = torch.from_numpy(np.random.default_rng(seed).gamma(2.0, 0.5, 400))
        low, high = interval(float(values.mean()), left_out(means_left_out(values)))
        covered.append(low <= 1.0 <= high)
    assert 0.92 <= np.mean(covered) <= 0.98


def test_what_both_owe_to_the_same_reference_cancels_in_their_difference():
    """Statistics are means of samples less that of the reference; the reference is much noisier than the samples."""
    paired, apart, widths = [], [], []
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        reference = torch.from_numpy(rng.normal(0, 5, 200))
        values, spreads = [], []
        for mean in (1.0, 0.0):
            samples = torch.from_numpy(rng.normal(mean, 1, 200))
            values.append(float(samples.mean() - reference.mean()))
            of_reference = [float(samples.mean()) - v for v in means_left_out(reference)]
            spreads.append(left_out([v - float(reference.mean()) for v in means_left_out(samples)], of_reference))
        reaches = []
        for together, covered in ((True, paired), (False, apart)):
            variance, freedom = sampling(*spreads, paired=together)
            reaches.append(student(freedom) * variance**0.5)
            covered.append(abs(values[0] - values[1] - 1.0) <= reaches[-1])
        widths.append(reaches[1] / reaches[0])
    assert 0.92 <= np.mean(paired) <= 0.98
    assert np.mean(apart) == 1.0 and np.mean(widths) > 3


def test_nothing_that_does_not_vary_is_proof():
    assert two_tailed(0.3, 0.0, 10.0) == 1.0 and two_tailed(0.0, 1.0, 10.0) == 1.0
    assert two_tailed(2.2281, 1.0, 10.0) == pytest.approx(0.05, abs=1e-4)


def test_holm_corrects_for_all_that_are_not_yet_rejected():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == [] and holm([0.9, 0.8]) == [1.0, 1.0]


def test_a_share_that_varies_more_than_its_images_has_a_wider_interval():
    plain = share_interval(0.3, 100, Spread(0.3 * 0.7 / 100, 1e9))
    assert plain == pytest.approx(wilson(30, 100), abs=1e-6)
    assert share_interval(0.3, 100, Spread(4 * 0.3 * 0.7 / 100, 1e9)) == pytest.approx(wilson(7.5, 25), abs=1e-6)
    assert share_interval(0.0, 100, Spread(0.0, 1.0)) == wilson(0, 100)


def test_a_mean_of_seeds_varies_less_by_samples_and_as_much_by_the_reference():
    one = Spread(0.04, 19.0, (0.1, -0.1), 1.0)
    mean = averaged([one, one, one, one])
    assert mean.samples == pytest.approx(0.01) and mean.freedom == pytest.approx(76)
    assert mean.of_reference == pytest.approx(one.of_reference)
