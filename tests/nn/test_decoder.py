"""The decoder at any grid and image size, and its losses."""

import pytest
import torch

from embprobe.errors import UserError
from embprobe.nn.decoder import DecoderTask, Losses, PixelDecoder
from embprobe.pixels import to_signed
from tests.drawn import complete, losses


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


def test_one_way_back_gives_what_two_give() -> None:
    """Both losses' gradients are taken at the image; taken through the whole decoder they are the same."""
    from embprobe.nn.adversarial import generator_loss

    torch.manual_seed(0)
    task = DecoderTask(
        PixelDecoder(4, (4, 6), (20, 28), width=8), Losses(gan_start=0, gan_width=4), rate=1e-3, noise=0.1
    )
    given = complete(task, batch())
    [(_, loss), _] = list(task.losses(given, 0))
    loss.backward()
    found = [p.grad.clone() for p in task.network.parameters() if p.grad is not None]
    weight = task.scalars["adaptive_weight"]

    fake = task.network(given["latents"] + given["sigma"][:, None, None, None] * given["noise"])
    assert task.discriminator is not None
    plain = task.reconstruction(fake, to_signed(given["images"], (20, 28)))
    adversarial = generator_loss(task.discriminator(fake))
    norms = [torch.autograd.grad(v, task.network.last_layer, retain_graph=True)[0].norm() for v in (plain, adversarial)]
    assert float(weight) == pytest.approx(float(norms[0] / (norms[1] + 1e-4)), rel=1e-4)
    task.zero_grad()
    total = plain + 0.5 * weight * adversarial
    total.backward()
    assert loss.item() == pytest.approx(total.item(), rel=1e-5)
    for one, other in zip(found, [p.grad for p in task.network.parameters()], strict=True):
        assert other is not None
        assert float((one - other).norm()) <= 1e-5 * float(other.norm()) + 1e-7


def test_an_odd_size_is_the_antialiased_bicubic() -> None:
    torch.manual_seed(0)
    decoder, z = PixelDecoder(4, (4, 6), (27, 40), width=8), torch.randn(2, 4, 6, 4)
    whole = decoder.body(z.permute(0, 3, 1, 2))
    wanted = torch.nn.functional.interpolate(whole, (27, 40), mode="bicubic", antialias=True, align_corners=False)
    torch.testing.assert_close(decoder(z), wanted, rtol=1e-5, atol=1e-5)
