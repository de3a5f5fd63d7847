"""The diffusion transformer."""

import pytest
import torch

from embprobe.nn.dit import DiT


@pytest.mark.parametrize("grid", [(7, 7), (3, 8), (6,), (2, 3, 4)])
def test_it_keeps_the_shape_and_predicts_zero_at_first(grid: tuple[int, ...]) -> None:
    network = DiT(5, grid, width=24, depth=2, heads=2, classes=3)
    out = network(torch.randn(2, 5, *grid), torch.tensor([1.0, 900.0]), torch.tensor([0, 3]))
    assert out.shape == (2, 5, *grid) and out.abs().max() == 0


def test_place_time_and_condition_all_matter() -> None:
    torch.manual_seed(0)
    network = DiT(2, (4, 4), width=16, depth=2, heads=2, classes=2)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    z, time, label = torch.randn(1, 2, 4, 4), torch.tensor([500.0]), torch.tensor([0])
    out = network(z, time, label)
    assert not torch.allclose(network(z.flip(-1), time, label), out.flip(-1))
    assert not torch.allclose(network(z, time + 100, label), out)
    assert not torch.allclose(network(z, time, label + 1), out)


def test_a_condition_is_needed_exactly_if_there_are_classes() -> None:
    with pytest.raises(ValueError, match="condition"):
        DiT(2, (4, 4), width=16, depth=1, heads=2, classes=2)(torch.randn(1, 2, 4, 4), torch.tensor([5.0]))
