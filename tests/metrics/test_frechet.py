"""Fréchet distances against closed forms and SciPy's general matrix root."""

import numpy as np
import pytest
import torch
from scipy import linalg

from embprobe.metrics.frechet import (
    frechet,
    frechet_distance,
    frechet_infinity,
    frechet_jackknife,
    moments,
)
from embprobe.metrics.intervals import group_of


def gaussian(count: int, width: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) + shift


def test_diagonal_gaussians_have_the_closed_form():
    mean, spread = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([4.0, 0.25, 1.0]).double()
    found = frechet(mean, spread.diag(), torch.zeros(3).double(), torch.eye(3).double())
    assert found == pytest.approx(float((mean**2).sum() + ((spread.sqrt() - 1) ** 2).sum()), rel=1e-12)


def test_it_equals_the_general_matrix_root():
    x, y = gaussian(400, 24, 0) @ gaussian(24, 24, 1), gaussian(400, 24, 2, 0.3)
    (m1, c1), (m2, c2) = moments(x), moments(y)
    root = linalg.sqrtm(c1.numpy() @ c2.numpy()).real
    expected = float(((m1 - m2) ** 2).sum() + c1.trace() + c2.trace() - 2 * np.trace(root))
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)


def test_fewer_samples_than_dimensions_stay_finite_and_zero_against_themselves():
    x = gaussian(16, 64, 0)
    assert abs(frechet_distance(x, x)) < 1e-6 * 2 * float(moments(x)[1].trace())


def test_the_extrapolation_is_less_biased():
    x, y = gaussian(1000, 32, 0), gaussian(1000, 32, 1)  # the truth is 0
    assert abs(frechet_infinity(x, y)) < 0.5 * frechet_distance(x, y)


def test_few_samples_and_many_agree_on_the_same_data():
    x, y = gaussian(40, 64, 0), gaussian(30, 64, 1, 0.2)
    assert frechet_distance(x, y) == pytest.approx(frechet(*moments(x), *moments(y)), rel=1e-6)


@pytest.mark.parametrize("width", [8, 80])
def test_the_jackknife_leaves_out_just_its_group(width: int):
    x, y = gaussian(60, width, 0), gaussian(60, width, 1)
    member = group_of(60, 5)
    for group, found in enumerate(frechet_jackknife(x, y, member, 5)):
        assert found == pytest.approx(frechet_distance(x[member != group], y), rel=1e-9)
