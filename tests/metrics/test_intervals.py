"""Intervals cover what they should."""

import numpy as np
import pytest
import torch

from embprobe.metrics.intervals import centred, jackknife, wilson


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
    low, high = centred(1.0, 0.5)
    assert (low + high) / 2 == pytest.approx(1.0)
