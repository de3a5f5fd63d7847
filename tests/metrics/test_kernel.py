"""Kernel distance against its definition."""

import pytest
import torch

from embprobe.metrics.intervals import group_of
from embprobe.metrics.kernel import kernel_distance, kernel_jackknife


def features(count: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)) + shift


def by_definition(x: torch.Tensor, y: torch.Tensor) -> float:
    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a.double() @ b.double().T / a.shape[1] + 1) ** 3

    n, m = len(x), len(y)
    within = (kernel(x, x).sum() - kernel(x, x).trace()) / (n * (n - 1))
    other = (kernel(y, y).sum() - kernel(y, y).trace()) / (m * (m - 1))
    return float(within + other - 2 * kernel(x, y).mean())


def test_it_equals_the_definition():
    x, y = features(40, 0), features(30, 1, 0.5)
    assert kernel_distance(x, y) == pytest.approx(by_definition(x, y), rel=1e-10)


def test_it_is_unbiased():
    draws = [kernel_distance(features(30, 2 * s), features(30, 2 * s + 1)) for s in range(200)]
    values = torch.tensor(draws)
    assert abs(float(values.mean())) < 3 * float(values.std()) / len(draws) ** 0.5


def test_the_jackknife_leaves_out_just_its_group():
    x, y, member = features(30, 0), features(30, 1, 0.2), group_of(30, 5)
    for group, found in enumerate(kernel_jackknife(x, y, member, 5)):
        assert found == pytest.approx(by_definition(x[member != group], y), rel=1e-9)
