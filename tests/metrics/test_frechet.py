"""Fréchet distances against closed forms and SciPy's general matrix root."""

import numpy as np
import pytest
import torch
from scipy import linalg

from embprobe.errors import UserError
from embprobe.metrics import frechet as module
from embprobe.metrics.frechet import Cloud, Frechet, FrechetInfinity, frechet, frechet_distance, moments
from embprobe.metrics.intervals import group_of, jackknife_error


def gaussian(count: int, width: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed)) + shift


def test_moments_are_the_mean_and_covariance_however_they_are_cut(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "ROWS", 7)
    monkeypatch.setattr(module, "STRIP", 3)
    x = gaussian(50, 10, 0, 1e3)
    mean, cov = moments(x)
    torch.testing.assert_close(mean, x.double().mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(cov, x.double().T.cov(), rtol=1e-9, atol=1e-12)


def test_diagonal_gaussians_have_the_closed_form():
    mean, spread = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([4.0, 0.25, 1.0]).double()
    found = frechet(mean, spread.diag(), torch.zeros(3).double(), torch.eye(3).double())
    assert found == pytest.approx(float((mean**2).sum() + ((spread.sqrt() - 1) ** 2).sum()), rel=1e-12)


def test_gaussians_that_share_their_axes_have_the_closed_form():
    """Σᵢ = Q diag(sᵢ²) Qᵀ: the distance is |m₁ − m₂|² + Σ (s₁ − s₂)²."""
    axes = torch.linalg.qr(gaussian(20, 20, 0).double()).Q
    first, second = torch.linspace(0.1, 3, 20).double(), torch.linspace(2, 0.5, 20).double()
    cov_1, cov_2 = (axes * first**2) @ axes.T, (axes * second**2) @ axes.T
    shift = torch.linspace(-1, 1, 20).double()
    expected = float((shift**2).sum() + ((first - second) ** 2).sum())
    assert frechet(shift, cov_1, torch.zeros(20).double(), cov_2) == pytest.approx(expected, rel=1e-11)


def test_it_equals_the_general_matrix_root():
    x, y = gaussian(400, 24, 0) @ gaussian(24, 24, 1), gaussian(400, 24, 2, 0.3)
    (m1, c1), (m2, c2) = moments(x), moments(y)
    root = linalg.sqrtm(c1.numpy() @ c2.numpy()).real
    expected = float(((m1 - m2) ** 2).sum() + c1.trace() + c2.trace() - 2 * np.trace(root))
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(16, 16), (16, 200), (200, 16)])
def test_fewer_samples_than_dimensions_give_the_distance_of_their_moments(n: int, m: int):
    x, y = gaussian(n, 64, 0), gaussian(m, 64, 1, 0.2)
    (_, c1), (_, c2) = moments(x), moments(y)
    reach = 1e-6 * float(c1.trace() + c2.trace())
    assert frechet_distance(x, y) == pytest.approx(frechet(*moments(x), *moments(y)), abs=reach)
    assert frechet_distance(x, x) == pytest.approx(0, abs=reach)


def test_features_that_never_vary_add_nothing():
    x, y = gaussian(200, 12, 0), gaussian(200, 12, 1, 0.4)
    dead = torch.full((200, 20), 2.5)
    wider = frechet_distance(torch.cat([x, dead], 1), torch.cat([y, dead], 1))
    assert wider == pytest.approx(frechet_distance(x, y), rel=1e-6)
    assert frechet_distance(dead, dead) == 0


def test_the_extrapolation_recovers_the_closed_form_with_less_bias():
    width, shift = 64, 0.1
    spread = torch.linspace(0.3, 2, width)
    truth = width * shift**2 + float(((spread - 1) ** 2).sum())
    for count in (500, 1000, 5000):
        sets = [(gaussian(count, width, 2 * s), gaussian(count, width, 2 * s + 1) * spread + shift) for s in range(40)]
        plain = torch.tensor([frechet_distance(x, y) for x, y in sets]) - truth
        beyond = torch.tensor([FrechetInfinity(x, y).value for x, y in sets]) - truth
        assert abs(beyond.mean()) < 0.25 * plain.mean()
        assert abs(beyond.mean()) < 3 * beyond.std() / 40**0.5 < 0.02 * truth
        assert beyond.std() < 1.2 * plain.std()


def test_the_extrapolation_of_a_set_against_itself_is_zero():
    x = gaussian(300, 16, 0)
    assert FrechetInfinity(x, x).value == pytest.approx(0, abs=1e-9)
    with pytest.raises(UserError, match="too few"):
        FrechetInfinity(x[:3], x)


@pytest.mark.parametrize(("n", "m", "width"), [(60, 90, 8), (60, 60, 80), (60, 200, 80), (200, 60, 80), (200, 100, 80)])
def test_the_jackknife_leaves_out_just_its_group(n: int, m: int, width: int):
    x, y = gaussian(n, width, 0, 5), gaussian(m, width, 1, 5.2)
    member, between = group_of(n, 5), Frechet(Cloud(x), Cloud(y))
    for group, found in enumerate(between.left_out(member, range(5))):
        assert found == pytest.approx(frechet_distance(x[member != group], y), rel=1e-7)
    for group, found in enumerate(between.of_other.left_out(group_of(m, 5), range(5))):
        assert found == pytest.approx(frechet_distance(x, y[group_of(m, 5) != group]), rel=1e-7)


@pytest.mark.parametrize("width", [1, 3, 30])
def test_four_samples_are_enough_to_leave_some_out(width: int):
    x, y = gaussian(4, width, 0), gaussian(5, width, 1)
    for seed in range(4):
        between = FrechetInfinity(x, y, seed)
        assert np.isfinite([between.value, *between.left_out(2)[1], *between.of_other.left_out(2)[1]]).all()


def test_the_extrapolations_jackknife_finds_its_spread():
    draws = [(gaussian(400, 16, 2 * s), gaussian(400, 16, 2 * s + 1, 0.5)) for s in range(60)]
    spread = float(torch.tensor([FrechetInfinity(x, y).value for x, y in draws]).std())
    variances = []
    for x, y in draws[:20]:
        between = FrechetInfinity(x, y)
        sides = between.left_out(12)[1], between.of_other.left_out(12)[1]
        variances.append(sum(jackknife_error(side) ** 2 for side in sides))
    assert (sum(variances) / len(variances)) ** 0.5 == pytest.approx(spread, rel=0.25)


@pytest.mark.parametrize(("n", "width"), [(64, 8), (65, 40)])
def test_the_extrapolations_jackknife_leaves_a_group_out_of_the_whole_and_of_its_half(n: int, width: int):
    x, y = gaussian(n, width, 0, 5), gaussian(70, width, 1, 5.2)
    between = FrechetInfinity(x, y, 3)
    member, groups = between.groups(7)
    assert groups == 6 and int(torch.bincount(member).min()) >= n // 6 - 1
    wholes, beyond = between.left_out(7)
    halves = [(i, y[j]) for i, j in zip(*between.places, strict=True)]
    for group in range(groups):
        assert wholes[group] == pytest.approx(frechet_distance(x[member != group], y), rel=1e-7)
        each = [frechet_distance(x[i][member[i] != group], others) for i, others in halves]
        assert beyond[group] == pytest.approx(2 * wholes[group] - sum(each) / 2, rel=1e-6)
