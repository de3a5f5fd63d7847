"""Positions, times, parameter groups and statistics of tokens."""

import torch

from embprobe.nn.layers import (
    cos_sin_positions,
    decay_groups,
    effective_rank,
    gather,
    sin_cos_positions,
    time_features,
    token_statistics,
)


def test_times_follow_the_formula() -> None:
    features = time_features(torch.tensor([3.0]), 4)
    expected = torch.tensor([3.0, 0.03])
    torch.testing.assert_close(features[0], torch.cat([expected.cos(), expected.sin()]))


def test_positions_differ_from_token_to_token_on_any_grid() -> None:
    for positions in (cos_sin_positions, sin_cos_positions):
        for grid in ((8, 8), (3, 5), (7,), (2, 3, 4)):
            table = positions(grid, 36)
            assert table.shape == (torch.Size(grid).numel(), 36)
            assert torch.cdist(table, table).fill_diagonal_(1).min() > 0.05


def test_each_axis_has_its_own_part_in_reading_order() -> None:
    one, other = cos_sin_positions((3, 5), 16), sin_cos_positions((3, 5), 16)
    row, column = 2, 4
    rates = 10_000.0 ** (-torch.arange(4) / 4)
    waves = [(place * rates).cos() for place in (row, column)], [(place * rates).sin() for place in (row, column)]
    cos, sin = waves
    torch.testing.assert_close(one[row * 5 + column], torch.cat([cos[0], sin[0], cos[1], sin[1]]))
    torch.testing.assert_close(other[row * 5 + column], torch.cat([sin[0], cos[0], sin[1], cos[1]]))


def test_a_width_that_axes_do_not_share_evenly_ends_in_zeros() -> None:
    assert (cos_sin_positions((2, 2), 11)[:, 8:] == 0).all()
    assert (sin_cos_positions((2, 2), 11)[:, 8:] == 0).all()


def test_tokens_are_picked_by_index() -> None:
    x = torch.arange(2 * 3 * 2.0).reshape(2, 3, 2)
    assert torch.equal(gather(x, torch.tensor([[2, 0], [1, 1]])), torch.stack([x[0, [2, 0]], x[1, [1, 1]]]))


def test_only_matrices_decay_and_frozen_parameters_are_left_out() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2))
    network[2].requires_grad_(False)
    decayed, flat = decay_groups(list(network.parameters()), 0.3)
    assert decayed["params"] == [network[0].weight] and decayed["weight_decay"] == 0.3
    assert len(flat["params"]) == 3 and flat["weight_decay"] == 0  # type: ignore[arg-type]


def test_effective_rank_counts_directions() -> None:
    x = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    assert 7.9 < float(effective_rank(x)) <= 8.001
    assert float(effective_rank(x[:, :1] @ torch.ones(1, 8))) < 1.01


def test_collapsed_tokens_have_no_spread() -> None:
    collapsed = token_statistics(torch.ones(2, 5, 3))
    assert collapsed["std"] == 0
    assert float(token_statistics(torch.randn(2, 50, 3))["std"]) > 0.5
