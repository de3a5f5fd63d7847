"""Decoder: latents (*grid,d) to images, latent diffusion's decoder scaled to the image's size."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import Decoder as Body
from torch import Tensor, nn

from embprobe.errors import UserError
from embprobe.nn.adversarial import PatchDiscriminator, adaptive_weight, discriminator_loss, generator_loss
from embprobe.nn.vae import posterior_sample
from embprobe.pixels import to_signed
from embprobe.training.task import Task

Distance = Callable[[Tensor, Tensor], Tensor]
"""Two batches of images (B,C,H,W) in [-1, 1] → (B,)."""


class PixelDecoder(nn.Module):
    """Normalised latents (B,h,w,d) to images (B,C,H,W) in [-1, 1] (Rombach et al. 2022).

    The grid is doubled until it reaches `size`, then resized by an antialiased bicubic where H/h or W/w is no such
    power of two. Widths are `width` × (1, …, 1, 2, 2): 64 × 1-1-2-2 and 3.27 M parameters for 16×16×16 to 128 px.
    """

    def __init__(
        self, channels: int, grid: Sequence[int], size: Sequence[int], *, width: int = 64, out_channels: int = 3
    ) -> None:
        super().__init__()
        if len(grid) != 2:
            raise UserError(f"images are decoded from a grid of two axes, these latents have {len(grid)}")
        self.size, self.out_channels = (size[0], size[1]), out_channels
        doublings = max(0, *(math.ceil(math.log2(pixels / tokens)) for pixels, tokens in zip(size, grid, strict=True)))
        multipliers = (*[1] * (doublings - 1), 2, 2)[-doublings - 1 :]
        self.body = Body(
            in_channels=channels,
            out_channels=out_channels,
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

    def forward(self, z_Bhwd: Tensor) -> Tensor:
        """Images BCHW; not clamped, so that gradients pass."""
        image: Tensor = self.body(z_Bhwd.permute(0, 3, 1, 2).contiguous())
        if tuple(image.shape[-2:]) == self.size:
            return image
        return F.interpolate(image.float(), self.size, mode="bicubic", antialias=True, align_corners=False)


@dataclass(frozen=True, kw_only=True)
class Losses:
    """What a decoder is trained on beside L1: a perceptual distance, and a discriminator from a step on."""

    distance: Distance | None = None
    perceptual_weight: float = 1.0
    gan_start: int | None = None  # None: no discriminator
    gan_weight: float = 0.5
    gan_width: int = 64


class DecoderTask(Task):
    """L1 + perceptual + hinge loss of a patch discriminator (Esser et al. 2021, Rombach et al. 2022).

    A batch holds normalised `latents` (B,h,w,d), u8 `images` (B,H,W,C), and the posterior's std as `spread` where samples
    of it are learned from, drawn anew each time. Latents get noise of σ ~ U(0, noise), one σ
    an image (Zheng et al. 2025). The perceptual distance is no part of the task's state. `on_step` is called with the
    decoder and the number of steps made, after every step.
    """

    def __init__(
        self,
        decoder: PixelDecoder,
        losses: Losses,
        *,
        rate: float,
        noise: float,
        on_step: Callable[[PixelDecoder, int], None] | None = None,
    ) -> None:
        super().__init__()
        self.network: PixelDecoder = decoder
        self.weighting = (losses,)  # in a tuple: the distance's frozen weights stay out of the checkpoints
        self.rate, self.noise, self.on_step = rate, noise, on_step
        self.discriminator = None
        if losses.gan_start is not None:
            self.discriminator = PatchDiscriminator(decoder.size, losses.gan_width, channels=decoder.out_channels)

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """Adam for the decoder, and one for the discriminator where there is one."""
        networks: dict[str, nn.Module] = {"decoder": self.network}
        if self.discriminator is not None:
            networks["discriminator"] = self.discriminator
        return {
            name: torch.optim.Adam(network.parameters(), self.rate, (0.5, 0.9), fused=True)
            for name, network in networks.items()
        }

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor]]:
        """The decoder's loss, then the discriminator's from its first step on."""
        latents = posterior_sample(batch["latents"], batch.get("spread"))
        real = to_signed(batch["images"], self.network.size)
        sigma_B = self.noise * torch.rand(len(real), device=real.device)
        noisy = latents + sigma_B[:, None, None, None] * torch.randn_like(latents)
        fake = self.network(noisy)
        loss = (fake.float() - real).abs().mean()
        self.scalars["l1"] = loss.detach()
        (weighting,) = self.weighting
        if weighting.distance is not None:
            distance = weighting.distance(fake, real).float().mean()
            self.scalars["perceptual"] = distance.detach()
            loss = loss + weighting.perceptual_weight * distance
        if self.discriminator is None or weighting.gan_start is None or step < weighting.gan_start:
            yield "decoder", loss
            return
        adversarial = generator_loss(self.discriminator(fake).float())
        weight = adaptive_weight(loss, adversarial, self.network.last_layer)
        self.scalars["adaptive_weight"] = weight
        yield "decoder", loss + weighting.gan_weight * weight * adversarial
        yield "discriminator", discriminator_loss(self.discriminator(real), self.discriminator(fake.detach()))

    def after(self, step: int) -> None:
        """Tells that a step is done."""
        if self.on_step is not None:
            self.on_step(self.network, step)
