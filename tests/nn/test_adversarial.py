"""The patch discriminator and its losses."""

import pytest
import torch

from embprobe.nn.adversarial import PatchDiscriminator, adaptive_weight, discriminator_loss, generator_loss


@pytest.mark.parametrize("size", [(8, 8), (24, 24), (64, 64), (16, 48)])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_image_size_gives_a_map_of_logits(size: tuple[int, int], channels: int) -> None:
    logits = PatchDiscriminator(size, width=4, channels=channels)(torch.randn(2, channels, *size))
    assert logits.shape[:2] == (2, 1) and min(logits.shape[2:]) >= 1


def test_the_hinge_rests_where_both_sides_are_sure() -> None:
    assert discriminator_loss(torch.tensor([1.5]), torch.tensor([-2.0])) == 0
    assert discriminator_loss(torch.tensor([0.0]), torch.tensor([0.0])) == 1
    assert generator_loss(torch.tensor([1.0, 3.0])) == -2


def test_the_adaptive_weight_is_the_ratio_of_gradient_norms() -> None:
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    image = weight * torch.tensor([1.0, 2.0])  # through which both losses see the weights
    ratio = adaptive_weight(image, torch.tensor([3.0, 2.0]), torch.tensor([2.0, 0.0]), weight)
    assert ratio.item() == pytest.approx(5 / 2, rel=1e-3)
    assert not ratio.requires_grad
