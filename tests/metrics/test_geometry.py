"""Geometry of tokens against closed forms and a direct computation."""

import pytest
import torch

from embprobe.metrics.geometry import linear_alignment, of_groups, similarity_decay, spectral_rank, token_distances
from embprobe.metrics.probes import Normal


def gram_of(*parts: torch.Tensor) -> torch.Tensor:
    joined = torch.cat(parts, 1).double()
    centred = joined - joined.mean(0)
    return centred.T @ centred


def test_the_rank_counts_directions_of_equal_size() -> None:
    assert float(spectral_rank(torch.diag(torch.tensor([4.0] * 5 + [0.0] * 3)))) == pytest.approx(5)
    assert float(spectral_rank(torch.diag(torch.tensor([9.0, 0, 0])))) == pytest.approx(1)


def test_alignment_is_one_up_to_rotation_and_scale_and_near_nothing_for_noise() -> None:
    torch.manual_seed(0)
    x = torch.randn(500, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64)
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))[0]
    assert float(linear_alignment(gram_of(x, 3 * x @ turn + 7), 6)) == pytest.approx(1)
    assert float(linear_alignment(gram_of(x, torch.randn(500, 4)), 6)) < 0.05
    y = torch.randn(500, 4, dtype=torch.float64) + x[:, :4]
    kernel, other = ((v - v.mean(0)) @ (v - v.mean(0)).T for v in (x, y))  # Kornblith et al. 2019, by Gram matrices
    wanted = (kernel * other).sum() / (kernel.norm() * other.norm())
    assert float(linear_alignment(gram_of(x, y), 6)) == pytest.approx(float(wanted))


def test_groups_together_are_the_whole_and_their_interval_covers_it() -> None:
    torch.manual_seed(0)
    x = torch.randn(400, 3)
    parts = [Normal(3, 0, "cpu") for _ in range(10)]
    for part, rows in zip(parts, x.split(40), strict=True):
        part.add(rows, rows[:, :0])
    found = of_groups(spectral_rank, parts)
    assert found.value == pytest.approx(float(spectral_rank(gram_of(x))))
    assert found.low < found.value < found.high  # type: ignore[operator]


def test_similarity_falls_with_distance_where_near_tokens_are_alike() -> None:
    far = token_distances((4, 5))
    assert far[0, 6] == pytest.approx(2**0.5) and far.shape == (20, 20)
    angle = torch.arange(7.0) * 0.2
    smooth = torch.stack([angle.cos(), angle.sin()], 1)[None]
    line = token_distances((7,))
    found = float(similarity_decay(smooth, line)[0])
    one, other = torch.triu_indices(7, 7, 1)
    wanted = torch.corrcoef(torch.stack([(0.2 * line[one, other]).cos(), line[one, other]]))[0, 1]
    assert found == pytest.approx(float(wanted), abs=1e-5) and found < -0.9
    torch.manual_seed(0)
    assert abs(float(similarity_decay(torch.randn(50, 20, 64), far).mean())) < 0.03
