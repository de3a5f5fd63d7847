"""Adversarial loss of the decoder: patch discriminator, hinge losses, adaptive weight."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Images (B,C,H,W) to a map of logits, one per patch (Isola et al. 2017), as in latent diffusion.

    Three stride-2 layers, fewer where the shorter side is under 24 px.
    """

    def __init__(self, size: tuple[int, int], width: int = 64, *, channels: int = 3) -> None:
        super().__init__()
        depth = max(1, min(3, int(math.log2(min(size) / 3))))
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        before = width
        for i in range(1, depth + 1):
            after = width * min(2**i, 8)
            layers += [nn.Conv2d(before, after, 4, 2 if i < depth else 1, 1, bias=False), nn.BatchNorm2d(after)]
            layers += [nn.LeakyReLU(0.2)]
            before = after
        self.body = nn.Sequential(*layers, nn.Conv2d(before, 1, 4, 1, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.02)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        logits: Tensor = self.body(image_BCHW)
        return logits


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss on logits (Lim & Ye 2017): 0 where real > 1 and fake < −1."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def generator_loss(fake: Tensor) -> Tensor:
    """Minus the mean logit of what the decoder made."""
    return -1.0 * fake.mean()


def adaptive_weight(fake: Tensor, towards_real: Tensor, towards_fooling: Tensor, last_layer: Tensor) -> Tensor:
    """‖∇ reconstruction‖ / ‖∇ adversarial‖ at the decoder's last layer, at most 10⁴ (Esser et al. 2021, eq. 7).

    From the gradients of both losses at the image; each is taken through the last layer alone.
    """
    norms = [
        torch.autograd.grad(fake, last_layer, towards, retain_graph=True)[0].norm()
        for towards in (towards_real, towards_fooling)
    ]
    weight: Tensor = (norms[0] / (norms[1] + 1e-4)).clamp(0, 1e4)
    return weight


def with_gradient(loss: Tensor, image: Tensor, gradient: Tensor) -> Tensor:
    """A loss of this value whose gradient at the image is the one given."""
    through = (image.float() * gradient.float()).sum()
    return loss + through - through.detach()
