"""Copies are found, fresh images and blurred ones are not taken for copies."""

import pytest
import torch
from torch import Tensor

from embprobe.metrics.memorisation import Memorisation, memorisation, nearest


def cloud(count: int, seed: int, width: int = 24) -> Tensor:
    """Points of unequal spread, as features have."""
    scale = torch.arange(1, width + 1).double().rsqrt()
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def judged(samples: Tensor, train: Tensor, held: Tensor) -> Memorisation:
    return memorisation(nearest(samples, train.split(100)), nearest(samples, [held]), len(train), len(held))


def test_nearest_is_what_all_distances_say_whatever_the_blocks() -> None:
    queries, points = cloud(50, 0), cloud(333, 1) + 1000
    queries += 1000
    distance, row = torch.cdist(queries, points, compute_mode="donot_use_mm_for_euclid_dist").sort(1)
    for size in (1, 3, 100, 333):
        near = nearest(queries, points.split(size))
        assert torch.equal(near.row, row[:, :5]) and torch.allclose(near.distance, distance[:, :5], rtol=1e-4)


def test_held_out_samples_are_not_called_memorised() -> None:
    found = [judged(cloud(200, 3 * s), cloud(400, 3 * s + 1), cloud(200, 3 * s + 2)) for s in range(100)]
    assert sum(m.p > 0.05 for m in found) >= 90
    assert sum(m.copies for m in found) <= 0.001 * 100 * 200
    assert sum(m.nearer for m in found) / 100 == pytest.approx(2 / 3, abs=0.02)
    assert found[0].expected == 2 / 3


def test_few_copies_are_found_among_many_samples() -> None:
    train, held = cloud(800, 1), cloud(300, 2)
    samples = torch.cat([cloud(380, 3), train[:20] + 0.01 * cloud(20, 4)])
    found = judged(samples, train, held)
    called = found.ratio <= 0.5
    assert found.p < 0.01 and called[380:].all() and called[:380].sum() <= 1
    assert found.share[1] <= 20 / 400 <= found.share[2]


def test_samples_that_lean_towards_the_training_images_are_noticed_without_copies() -> None:
    train, held = cloud(600, 1), cloud(600, 2)
    found = judged(0.6 * train + 0.8 * cloud(600, 3), train, held)
    assert found.p_all < 0.001 and found.share[0] < 0.05 and found.nearer > 0.55


def test_blur_is_not_taken_for_copying() -> None:
    found = [judged(0.4 * cloud(300, 3 * s), cloud(600, 3 * s + 1), cloud(300, 3 * s + 2)) for s in range(20)]
    assert sum(m.p > 0.05 for m in found) >= 17
    assert sum(m.copies for m in found) <= 0.001 * 20 * 300


def test_many_samples_with_one_nearest_image_count_as_one() -> None:
    held, train = cloud(50, 1), cloud(50, 2)
    mode = train[:1] + 0.5 * cloud(500, 3)
    assert judged(mode, train, held).p_all > 0.001
