"""The UNet at any grid, with and without classes."""

import pytest
import torch
from diffusers.models.attention_processor import Attention

from embprobe.nn.unet import UNet


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_the_papers_network_has_36_1_million_parameters() -> None:
    with torch.device("meta"):
        assert parameters(UNet(16)) == 36_052_240
        assert parameters(UNet(16, multipliers=(1, 2, 3), classes=3, conditioning="cross")) == 29_055_408


def test_the_papers_network_by_class_has_the_originals_parameters_beside_the_class_embedding() -> None:
    with torch.device("meta"):
        network = UNet(
            16,
            multipliers=(1, 2, 3),
            classes=3,
            conditioning="cross",
            attention=(2, 4),
            one_head=True,
            scale_shift=False,
        )
    assert parameters(network.body) == 35_133_136 and parameters(network.embedding) == 4 * 8
    heads = {name: m.heads for name, m in network.named_modules() if isinstance(m, Attention)}
    assert set(heads.values()) == {1}
    places = ("body.down_blocks.0.", "body.up_blocks.2.")  # 16×16
    assert not [name for name in heads if name.startswith(places)]
    assert len({name.split(".attentions")[0] for name in heads}) == 5  # two levels each way, and the middle


@pytest.mark.parametrize("grid", [(4, 4), (7, 7), (14, 14), (37, 37), (5, 12), (8, 3)])
def test_any_grid_and_any_width_of_latents(grid: tuple[int, int]) -> None:
    network = UNet(3, width=8)
    out = network(torch.randn(2, 3, *grid), torch.tensor([0.0, 999.0]))
    assert out.shape == (2, 3, *grid)


def test_height_and_width_are_padded_apart() -> None:
    torch.manual_seed(0)
    network = UNet(3, width=8).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    z, time = torch.randn(1, 3, 8, 6), torch.tensor([100.0])
    wide = network(torch.nn.functional.pad(z, (0, 2)), time)
    torch.testing.assert_close(network(z, time), wide[..., :6])


@pytest.mark.parametrize("conditioning", ["time", "cross"])
def test_the_condition_matters_once_the_output_layer_is_not_zero(conditioning: str) -> None:
    torch.manual_seed(0)
    network = UNet(3, width=8, classes=2, conditioning=conditioning)  # type: ignore[arg-type]
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    z, time = torch.randn(1, 3, 8, 8), torch.tensor([500.0])
    outs = [network(z, time, torch.tensor([label])) for label in (0, 1, 2)]
    assert not torch.allclose(outs[0], outs[1]) and not torch.allclose(outs[1], outs[2])


def test_a_new_network_predicts_zero() -> None:
    network = UNet(3, width=8)
    assert network(torch.randn(2, 3, 8, 8), torch.tensor([1.0, 500.0])).abs().max() == 0
