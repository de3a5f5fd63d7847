"""Kernel distance against its definition and closed forms."""

import pytest
import torch

from embprobe.metrics import kernel as module
from embprobe.metrics.intervals import group_of
from embprobe.metrics.kernel import Kernel, kernel_distance

WIDTH = 6


def features(count: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed)) + shift


def by_definition(x: torch.Tensor, y: torch.Tensor) -> float:
    def kernel(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a.double() @ b.double().T / a.shape[1] + 1) ** 3

    n, m = len(x), len(y)
    within = (kernel(x, x).sum() - kernel(x, x).trace()) / (n * (n - 1))
    other = (kernel(y, y).sum() - kernel(y, y).trace()) / (m * (m - 1))
    return float(within + other - 2 * kernel(x, y).mean())


@pytest.mark.parametrize("tile", [2048, 7])
def test_it_equals_the_definition(monkeypatch: pytest.MonkeyPatch, tile: int):
    monkeypatch.setattr(module, "TILE", tile)
    x, y = features(40, 0), features(30, 1, 0.5)
    assert kernel_distance(x, y) == pytest.approx(by_definition(x, y), rel=1e-10)


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_it_is_unbiased(shift: float):
    """Standard normal features against shifted ones; with s = |shift|², from the moments of x·y.

    MMD² = 3s/D + 3s²/D² + (s³ + 6s² + 3sD + 6s)/D³.
    """
    s, d = WIDTH * shift**2, WIDTH
    truth = 3 * s / d + 3 * s**2 / d**2 + (s**3 + 6 * s**2 + 3 * s * d + 6 * s) / d**3
    draws = [kernel_distance(features(30, 2 * i), features(40, 2 * i + 1, shift)) for i in range(200)]
    values = torch.tensor(draws)
    assert abs(float(values.mean()) - truth) < 3 * float(values.std()) / len(draws) ** 0.5
    assert float(values.std()) / len(draws) ** 0.5 < 0.05


def test_the_jackknife_leaves_out_just_its_group(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "TILE", 11)
    x, y = features(30, 0), features(25, 1, 0.2)
    between = Kernel(x, y)
    for group, found in enumerate(between.left_out(group_of(30, 5), range(5))):
        assert found == pytest.approx(by_definition(x[group_of(30, 5) != group], y), rel=1e-9)
    for group, found in enumerate(between.of_other.left_out(group_of(25, 5), range(5))):
        assert found == pytest.approx(by_definition(x, y[group_of(25, 5) != group]), rel=1e-9)
