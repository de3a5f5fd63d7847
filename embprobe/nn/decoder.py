"""Decoder: latents (K,K,d) to images, latent diffusion's decoder scaled to the image's size."""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import Decoder as Body
from torch import Tensor, nn

from embprobe.training.engine import Task
from embprobe.nn.adversarial import PatchDiscriminator, adaptive_weight, discriminator_loss, generator_loss


class Decoder(nn.Module):
    """Normalised latents (B,K,K,d) to images (B,3,S,S) in [-1, 1] (Rombach et al. 2022).

    The grid is doubled until it reaches `size`, then resized by an antialiased bicubic where S/K is no power of two.
    Widths are `width` × (1, …, 1, 2, 2): 64 × 1-1-2-2 and 3.27 M parameters for 16×16×16 to 128 px.
    """

    def __init__(self, channels: int, side: int, size: int, *, width: int = 64) -> None:
        super().__init__()
        self.size = size
        doublings = max(0, math.ceil(math.log2(size / side)))
        multipliers = (*[1] * (doublings - 1), 2, 2)[-doublings - 1 :]
        self.body = Body(
            in_channels=channels,
            out_channels=3,
            up_block_types=("UpDecoderBlock2D",) * len(multipliers),
            block_out_channels=tuple(width * m for m in multipliers),
            layers_per_block=2,
            norm_num_groups=next(g for g in (32, 16, 8, 4, 2, 1) if width % g == 0 and (width // g >= 2 or g == 1)),
        )

    @property
    def last_layer(self) -> Tensor:
        """The weights whose gradients balance the adversarial loss."""
        weight: Tensor = self.body.conv_out.weight
        return weight

    def forward(self, z_BKKd: Tensor) -> Tensor:
        """Images B3SS; not clamped, so that gradients pass."""
        image: Tensor = self.body(z_BKKd.permute(0, 3, 1, 2).contiguous())
        if image.shape[-1] == self.size:
            return image
        return F.interpolate(image.float(), (self.size, self.size), mode="bicubic", antialias=True, align_corners=False)


class DecoderTask(Task):
    """L1 + perceptual + hinge loss of a patch discriminator (Esser et al. 2021, Rombach et al. 2022).

    A batch holds normalised `latents` (B,K,K,d) and u8 `images` (B,H,W,3). Latents get noise of σ ~ U(0, noise), one σ
    an image (Zheng et al. 2025). `distance` maps two image batches to (B,); it is no part of the task's state.
    `seen` is called with the decoder after every step.
    """

    def __init__(
        self,
        decoder: Decoder,
        *,
        rate: float,
        noise: float,
        distance: Callable[[Tensor, Tensor], Tensor] | None,
        perceptual_weight: float,
        gan_weight: float,
        gan_start: int | None,
        gan_width: int,
        seen: Callable[[Decoder, int], None],
    ) -> None:
        super().__init__()
        self.network: Decoder = decoder
        self.rate, self.noise, self.seen = rate, noise, seen
        self.perceptual_weight, self.gan_weight, self.gan_start = perceptual_weight, gan_weight, gan_start
        self.distance = (distance,)  # in a tuple: frozen weights stay out of the checkpoints
        self.discriminator = None if gan_start is None else PatchDiscriminator(decoder.size, gan_width)

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        found: dict[str, torch.optim.Optimizer] = {
            "decoder": torch.optim.Adam(self.network.parameters(), self.rate, (0.5, 0.9), fused=True)
        }
        if self.discriminator is not None:
            found["discriminator"] = torch.optim.Adam(
                self.discriminator.parameters(), self.rate, (0.5, 0.9), fused=True
            )
        return found

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor]]:
        latents_BKKd, real = batch["latents"], to_signed(batch["images"], self.network.size)
        sigma_B = self.noise * torch.rand(len(real), device=real.device)
        noisy = latents_BKKd + sigma_B[:, None, None, None] * torch.randn_like(latents_BKKd)
        fake = self.network(noisy)
        loss = (fake.float() - real).abs().mean()
        self.scalars["l1"] = loss.detach()
        distance = self.distance[0]
        if distance is not None:
            apart = distance(fake, real).float().mean()
            self.scalars["perceptual"] = apart.detach()
            loss = loss + self.perceptual_weight * apart
        if self.discriminator is None or self.gan_start is None or step < self.gan_start:
            yield "decoder", loss
            return
        opposed = generator_loss(self.discriminator(fake).float())
        weight = adaptive_weight(loss, opposed, self.network.last_layer)
        self.scalars["adaptive_weight"] = weight
        yield "decoder", loss + self.gan_weight * weight * opposed
        yield "discriminator", discriminator_loss(self.discriminator(real), self.discriminator(fake.detach()))

    def after(self, step: int) -> None:
        self.seen(self.network, step)


def to_signed(images_BHWC: Tensor, size: int) -> Tensor:
    """u8 images (B,H,W,3) as f32 (B,3,size,size) in [-1, 1]; resized by an antialiased bicubic, in whole u8 steps."""
    x = images_BHWC.permute(0, 3, 1, 2).float()
    if x.shape[-1] != size or x.shape[-2] != size:
        x = F.interpolate(x, (size, size), mode="bicubic", antialias=True, align_corners=False).round().clamp(0, 255)
    return x / 127.5 - 1


def to_u8(images_B3SS: Tensor) -> Tensor:
    """Images in [-1, 1] as u8 (B,S,S,3)."""
    return ((images_B3SS.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
