"""Decoder: latents (*grid,d) to images, latent diffusion's decoder scaled to the image's size."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.vae import Decoder as Body
from torch import Tensor, nn

from embprobe.errors import UserError
from embprobe.nn.adversarial import (
    PatchDiscriminator,
    adaptive_weight,
    discriminator_loss,
    generator_loss,
    with_gradient,
)
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

    down: Tensor | None
    across: Tensor

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
        made = [tokens * 2**doublings for tokens in grid]
        resized = made != list(self.size)
        for name, pixels, wanted in zip(("down", "across"), made, self.size, strict=True):
            self.register_buffer(name, _resizing(pixels, wanted) if resized else None, persistent=False)

    @property
    def last_layer(self) -> Tensor:
        """The weights whose gradients balance the adversarial loss."""
        weight: Tensor = self.body.conv_out.weight
        return weight

    def forward(self, z_Bhwd: Tensor) -> Tensor:
        """Images BCHW; not clamped, so that gradients pass."""
        image: Tensor = self.body(z_Bhwd.permute(0, 3, 1, 2).contiguous())
        if self.down is None:
            return image
        with torch.autocast(image.device.type, enabled=False):
            return self.down @ image.float() @ self.across.mT


def _resizing(pixels: int, wanted: int) -> Tensor:
    """The antialiased bicubic as a matrix (wanted, pixels): its gradient, unlike PyTorch's own, is always the same."""
    square = torch.eye(pixels)[None, None]
    return F.interpolate(square, (wanted, pixels), mode="bicubic", antialias=True, align_corners=False)[0, 0]


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

    def draws(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """`sigma` (B,) and `noise` of the latents' shape; noise `within` the posterior where it is sampled."""
        shape = batch["latents"].shape
        drawn = {"sigma": self.noise * torch.rand(shape[0], generator=generator)}
        drawn["noise"] = torch.randn(shape, generator=generator)
        return drawn | ({"within": torch.randn(shape, generator=generator)} if "spread" in batch else {})

    def program(self, step: int) -> str:
        """With or without the discriminator."""
        return "adversarial" if self.adversarial(step) else ""

    def adversarial(self, step: int) -> bool:
        """Whether the discriminator takes part."""
        (weighting,) = self.weighting
        return self.discriminator is not None and weighting.gan_start is not None and step >= weighting.gan_start

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor]]:
        """The decoder's loss, then the discriminator's from its first step on."""
        latents = posterior_sample(batch["latents"], batch.get("spread"), batch.get("within"))
        real = to_signed(batch["images"], self.network.size)
        fake = self.network(latents + batch["sigma"][:, None, None, None] * batch["noise"])
        if not self.adversarial(step):
            yield "decoder", self.reconstruction(fake, real)
            return
        assert self.discriminator is not None
        (weighting,) = self.weighting
        loss, adversarial = self.reconstruction(fake, real), generator_loss(self.discriminator(fake).float())
        (towards_real,) = torch.autograd.grad(loss, fake)  # as far as the image: one way back through the decoder
        (towards_fooling,) = torch.autograd.grad(adversarial, fake)
        weight = adaptive_weight(fake, towards_real, towards_fooling, self.network.last_layer)
        self.scalars["adaptive_weight"] = weight
        share = weighting.gan_weight * weight
        total = loss.detach() + share * adversarial.detach()
        yield "decoder", with_gradient(total, fake, towards_real + share * towards_fooling)
        yield (
            "discriminator",
            discriminator_loss(self.discriminator(real).float(), self.discriminator(fake.detach()).float()),
        )

    def reconstruction(self, fake: Tensor, real: Tensor) -> Tensor:
        """L1, and the perceptual distance where there is one."""
        loss = (fake.float() - real).abs().mean()
        self.scalars["l1"] = loss.detach()
        (weighting,) = self.weighting
        if weighting.distance is None:
            return loss
        distance = weighting.distance(fake, real).float().mean()
        self.scalars["perceptual"] = distance.detach()
        return loss + weighting.perceptual_weight * distance

    def after(self, step: int) -> None:
        """Tells that a step is done."""
        if self.on_step is not None:
            self.on_step(self.network, step)
