"""Energies and what they tell, against closed forms."""

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score

from embprobe.metrics.energies import FLOOR, auc, better_than_mean, energy, gain, partners, told_apart, whitening


def test_whitened_truths_lie_at_a_mean_square_of_one() -> None:
    torch.manual_seed(0)
    mix = torch.randn(16, 16, dtype=torch.float64)
    x = torch.randn(20_000, 16, dtype=torch.float64) @ mix
    covariance = torch.cov(x.mT, correction=0)
    squares = energy(x, x.mean(0).expand_as(x), whitening(covariance)).square()
    values = torch.linalg.eigvalsh(covariance)
    wanted = (values / (values + FLOOR * values.mean())).mean()  # directions of hardly any variance count less
    assert float(squares.mean()) == pytest.approx(float(wanted), rel=1e-9) and 0.8 < wanted < 1


def test_auc_is_that_of_scikit_learn_with_ties() -> None:
    torch.manual_seed(0)
    true, swapped = torch.randint(0, 9, (40,)).double(), torch.randint(3, 12, (90,)).double()
    labels = [0] * 40 + [1] * 90  # a swapped pair has more energy
    assert auc(true, swapped) == pytest.approx(roc_auc_score(labels, [*true.tolist(), *swapped.tolist()]), abs=1e-12)


def test_auc_of_two_gaussians_lies_in_its_interval_as_often_as_it_says() -> None:
    """Φ(d / √2) for unit variances at a distance d; with pairs that share images, as here, intervals must not shrink."""
    inside = 0
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        own, other = (torch.randn(80, generator=generator, dtype=torch.float64) for _ in range(2))
        others = partners(80, 4, seed)
        # E(x, y) grows with what x adds to all its energies and y to all of its own
        true = 0.7 * own + 0.7 * torch.randn(80, generator=generator, dtype=torch.float64)
        swapped = 0.7 * own[:, None] + 0.7 * other[others] + 1
        wanted = 0.5 * (
            1 + math.erf(1 / (math.sqrt(2) * 0.7) / 2)
        )  # Var(true − swapped) of independent images = 4 · 0.49
        found = told_apart(true, swapped, others)
        inside += found.low <= wanted <= found.high
    assert 0.88 <= inside / 200 <= 1


def test_telling_all_of_few_pairs_apart_is_not_known_of_all() -> None:
    others = partners(40, 4, 0)
    found = told_apart(torch.rand(40), 2 + torch.rand(40, 4), others)
    assert (found.value, found.high) == (1, 1) and found.low == pytest.approx(0.912, abs=1e-3)  # Wilson, 40 of 40


def test_r2_and_gain_are_what_they_say() -> None:
    torch.manual_seed(0)
    mean = torch.rand(200, dtype=torch.float64) + 1
    found = better_than_mean(0.25 * mean, mean)
    assert found.value == pytest.approx(0.75) and found.low == pytest.approx(0.75) and found.high == pytest.approx(0.75)
    assert gain(0.1 * mean, mean).value == pytest.approx(10)
    noisy = better_than_mean(mean * torch.rand(200, dtype=torch.float64), mean)
    assert noisy.low < noisy.value < noisy.high


def test_nobody_is_a_partner_of_himself_and_all_are_as_often() -> None:
    others = partners(20, 8, 3)
    assert not (others == torch.arange(20)[:, None]).any()
    assert torch.bincount(others.flatten()).tolist() == [8] * 20
    assert partners(5, 8, 0).shape == (5, 4)
