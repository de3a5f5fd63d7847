"""Dropout by a key."""

import pytest
import torch
from torch import nn

from embprobe.nn.dropout import Dropouts, KeyedDropout
from tests.drawn import seeded


def dropped(key: int, p: float = 0.25, shape: tuple[int, ...] = (1000, 200)) -> torch.Tensor:
    layer = KeyedDropout(p)
    layer.key.fill_(key)
    out: torch.Tensor = layer(torch.ones(shape))
    return out


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_share_is_dropped_and_the_mean_kept(p: float) -> None:
    for key in (0, 1, -1, 2**31 - 1, 123456789):
        out = dropped(key, p)
        error = (p * (1 - p) / out.numel()) ** 0.5
        assert abs(float((out == 0).double().mean()) - p) < 4 * error
        assert out.unique().tolist() == [0, pytest.approx(1 / (1 - p))]


def test_neither_places_nor_keys_are_related() -> None:
    masks = torch.stack([(dropped(key, 0.5) == 0).double().flatten() for key in range(8)]) - 0.5
    together = (masks @ masks.mT / masks.shape[1] * 4).fill_diagonal_(0)
    assert together.abs().max() < 5 / masks.shape[1] ** 0.5  # keys beside each other
    first = masks[0]
    for lag in (1, 2, 3, 64, 200, 4096):  # and places at any distance, rows and columns among them
        assert abs(float((first[lag:] * first[:-lag]).mean() * 4)) < 5 / len(first) ** 0.5
    moved = torch.stack([(masks[0][lag:] * masks[1][:-lag]).mean() * 4 for lag in range(1, 300)])
    assert moved.abs().max() < 5 / len(first) ** 0.5  # nor is one key's mask another's moved aside


def test_what_is_dropped_follows_the_place_not_the_layout() -> None:
    layer, x = KeyedDropout(0.5), torch.randn(2, 3, 8, 8)
    layer.key.fill_(7)
    assert torch.equal(layer(x), layer(x.contiguous(memory_format=torch.channels_last)))


def test_nothing_is_dropped_outside_of_training() -> None:
    x = torch.randn(5)
    assert KeyedDropout(0.9).eval()(x) is x


def test_every_layer_of_a_network_has_a_key_of_its_own_at_every_step() -> None:
    network = nn.Sequential(nn.Dropout(0.2), nn.Linear(2, 2), nn.Sequential(nn.Dropout(0.3), nn.Dropout(0.0)))
    before = set(network.state_dict())
    dropouts = Dropouts.of(network)
    assert [layer.p for layer in dropouts.layers] == [0.2, 0.3] and set(network.state_dict()) == before
    keys = [dropouts.draws(seeded(step))["keys"] for step in range(100)]
    assert len(torch.cat(keys).unique()) == 200
    dropouts.follow({"keys": keys[3]})
    assert [int(layer.key) for layer in dropouts.layers] == keys[3].tolist()
    assert Dropouts.of(nn.Linear(2, 2)).draws(seeded()) == {}
