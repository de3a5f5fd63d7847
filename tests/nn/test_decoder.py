"""The decoder at any grid and image size, and its losses."""

import pytest
import torch

from embprobe.errors import UserError
from embprobe.nn.decoder import DecoderTask, Losses, PixelDecoder
from tests.drawn import losses


def test_the_published_decoder_has_3_27_million_parameters() -> None:
    with torch.device("meta"):
        decoder = PixelDecoder(16, (16, 16), (128, 128))
    assert sum(p.numel() for p in decoder.parameters()) == 3_274_179


@pytest.mark.parametrize(
    ("grid", "size"),
    [((8, 8), (64, 64)), ((7, 7), (50, 50)), ((16, 16), (16, 16)), ((16, 16), (10, 10)), ((4, 6), (32, 48)), ((4, 6), (40, 30))],
)  # fmt: skip
@pytest.mark.parametrize("channels", [1, 3])
def test_any_grid_to_any_size(grid: tuple[int, int], size: tuple[int, int], channels: int) -> None:
    decoder = PixelDecoder(4, grid, size, width=8, out_channels=channels)
    image = decoder(torch.randn(2, *grid, 4))
    assert image.shape == (2, channels, *size)
    image.mean().backward()
    assert decoder.last_layer.grad is not None


def test_a_grid_of_three_axes_is_refused() -> None:
    with pytest.raises(UserError, match="two axes"):
        PixelDecoder(4, (2, 3, 4), (16, 16))


def batch(channels: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 20, 36, channels), generator=generator).to(torch.uint8)
    return {"latents": torch.randn(2, 4, 6, 4, generator=generator), "images": images}


def test_the_discriminator_takes_part_from_its_step_on_in_greyscale_too() -> None:
    steps: list[int] = []
    decoder = PixelDecoder(4, (4, 6), (16, 24), width=8, out_channels=1)
    task = DecoderTask(
        decoder, Losses(gan_start=3, gan_width=4), rate=1e-3, noise=0.1, on_step=lambda _, step: steps.append(step)
    )
    assert [name for name, _ in losses(task, batch(1), 2)] == ["decoder"]
    assert [name for name, _ in losses(task, batch(1), 3)] == ["decoder", "discriminator"]
    assert set(task.optimisers()) == {"decoder", "discriminator"}
    task.after(4)
    assert steps == [4]


def test_the_perceptual_distance_is_weighed_and_stays_out_of_the_state() -> None:
    frozen = torch.nn.Linear(1, 1)

    def distance(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return (one - other).square().mean((1, 2, 3)) + 0 * frozen.weight.sum()

    totals = []
    for weighting in (Losses(), Losses(distance=distance, perceptual_weight=2.0)):
        torch.manual_seed(0)
        task = DecoderTask(PixelDecoder(4, (4, 6), (16, 24), width=8), weighting, rate=1e-3, noise=0.0)
        [(_, loss)] = losses(task, batch())
        totals.append(loss.item())
    assert totals[1] == pytest.approx(totals[0] + 2 * float(task.scalars["perceptual"]), rel=1e-5)
    assert all(name.startswith("network.") for name in task.state_dict())
