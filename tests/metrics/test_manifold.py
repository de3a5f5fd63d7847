"""Precision and recall on sets whose answer is plain."""

import pytest
import torch

from embprobe.errors import UserError
from embprobe.metrics.manifold import inside, precision_recall, radii


def cloud(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


def test_radii_are_distances_to_the_kth_other_point():
    x = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert radii(x, 2).tolist() == [9.0, 4.0, 9.0, 36.0]


def test_a_set_against_itself_is_all_inside():
    x = cloud(100, 0)
    precise, recalled = precision_recall(x, x)
    assert precise.all() and recalled.all()


def test_half_of_the_modes_gives_full_precision_and_half_the_recall():
    real = torch.cat([cloud(200, 0), cloud(200, 1) + 100])
    precise, recalled = precision_recall(real, real[:200].clone())
    assert precise.double().mean() == 1 and recalled.double().mean() == 0.5


def test_a_distance_equal_to_the_radius_counts():
    points = torch.tensor([[0.0], [1.0], [2.0]])
    assert inside(torch.tensor([[3.0]]), points, radii(points, 1)).all()


def test_too_few_samples_are_the_users_error():
    with pytest.raises(UserError, match="too few"):
        radii(cloud(3, 0), 3)
