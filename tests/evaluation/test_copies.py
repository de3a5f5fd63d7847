"""Copies and latents: the distance of latents against a closed form, copies where they were put."""

import numpy as np
import pytest
import torch
from torch import Tensor

from embprobe.evaluation.copies import Space, latent_distance, over_floor, search_copies, whitening
from embprobe.metrics.frechet import frechet

WIDTH = 6


def gaussian(count: int, seed: int, scale: Tensor, shift: float = 0.0) -> Tensor:
    draws = torch.randn(count, len(scale), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (draws * scale + shift).float()


def space(samples: Tensor, real: Tensor) -> Space:
    return Space(samples, lambda rows: real[torch.from_numpy(rows)])


def test_whitened_latents_have_unit_variance_in_every_direction() -> None:
    real = gaussian(4000, 0, torch.tensor([9.0, 4.0, 1.0, 0.5, 0.1, 3.0]))
    white = whitening(real, WIDTH, 0)(real)
    torch.testing.assert_close(white.T.cov(), torch.eye(WIDTH), atol=1e-3, rtol=0)
    torch.testing.assert_close(white.mean(0), torch.zeros(WIDTH), atol=1e-4, rtol=0)


def test_the_distance_of_whitened_gaussians_is_the_closed_form_whatever_their_units() -> None:
    """Samples whose std is 1.5 times the real one, moved by half a std: d² = Σ (0.5² + (1.5 − 1)²), and no unit stays."""
    scale = torch.tensor([5.0, 0.01, 2.0, 1.0, 30.0, 0.3])
    count, truth = 20_000, WIDTH * (0.5**2 + 0.5**2)
    real, samples = gaussian(count, 0, scale), gaussian(count, 1, 1.5 * scale)
    whiten = whitening(real, WIDTH, 0)
    x, y = whiten(samples + 0.5 * scale), whiten(real)
    moments = [(v.double().mean(0), v.double().T.cov()) for v in (x, y)]
    assert float(frechet(*moments[0], *moments[1])) == pytest.approx(truth, rel=0.03)
    other = whiten(gaussian(count, 2, scale))
    floor = [(v.double().mean(0), v.double().T.cov()) for v in (other, y)]
    expected = truth / float(frechet(*floor[0], *floor[1]))
    assert over_floor(x, y, other).value == pytest.approx(expected, rel=0.03)


def test_latents_like_the_held_out_ones_are_at_their_floor_and_others_are_above() -> None:
    scale = torch.linspace(0.2, 3, WIDTH)
    real = torch.cat([gaussian(1000, 0, scale), gaussian(1000, 1, scale)])
    train, held = np.arange(1000), np.arange(1000, 2000)
    same = latent_distance(space(gaussian(1000, 2, scale), real), train, held, 0)
    other = latent_distance(space(gaussian(1000, 2, scale, shift=0.5), real), train, held, 0)
    assert same is not None and other is not None and same.low is not None and same.high is not None
    assert same.low < 1.6 and same.value < 2 and other.value > 5
    assert other.low is not None and other.low > same.high and same.facts == {"count": 1000, "directions": WIDTH}


def test_too_few_latents_have_no_distance() -> None:
    few = gaussian(6, 0, torch.ones(WIDTH))
    assert latent_distance(space(few, few), np.arange(3), np.arange(3, 6), 0) is None


def test_copies_are_found_with_their_training_images() -> None:
    real = gaussian(400, 0, torch.ones(WIDTH))
    train, held = np.arange(300), np.arange(300, 400)
    samples = torch.cat([real[[7, 123]] + 1e-3, gaussian(48, 5, torch.ones(WIDTH))])
    test = search_copies(space(samples, real), np.arange(10, 60), train, held)
    assert {(place, row) for place, row, _ in test["worst"][:2]} == {(10, 7), (11, 123)}
    assert test["copies"] >= 2 and test["count"] == 50 and test["train"] == 300
