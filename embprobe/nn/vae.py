"""Compress embeddings (*grid,D) into latents (*grid,d): a linear VAE, or one transformer layer each way around it."""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embprobe.nn.layers import cos_sin_positions
from embprobe.training.task import Task

Kind = Literal["linear", "attention"]


class VAE(nn.Module):
    """Encodes to a Gaussian posterior per patch (Kingma & Welling 2014) and decodes its samples or its mean.

    `linear` is one 1×1 convolution each way, D → 2d and d → D. `attention` adds one transformer layer over the grid
    before and after, as a residual that starts at zero. Embeddings are standardised per channel by the buffers
    `mean` and `std`, for both kinds, and losses are in these units; 0 and 1 leave them raw. A grid may have any number of axes.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, grid: tuple[int, ...], width: int, channels: int, kind: Kind, kl_weight: float) -> None:
        super().__init__()
        self.grid, self.kl_weight = grid, kl_weight
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))
        self.to_posterior = nn.Linear(width, 2 * channels)
        self.to_embedding = nn.Linear(channels, width)
        self.mix_in = GridLayer(grid, width) if kind == "attention" else nn.Identity()
        self.mix_out = GridLayer(grid, width) if kind == "attention" else nn.Identity()

    def standardise(self, x: Tensor) -> Tensor:
        """Embeddings (…,D) at zero mean and unit variance per channel."""
        return (x - self.mean) / self.std

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the posterior, both (B,*grid,d)."""
        mean, logvar = self.to_posterior(self.mix_in(self.standardise(x))).float().chunk(2, -1)
        return mean, logvar.clamp(-30, 20)

    def decode_standardised(self, z: Tensor) -> Tensor:
        """Standardised embeddings (B,*grid,D) of latents (B,*grid,d)."""
        decoded: Tensor = self.mix_out(self.to_embedding(z)).float()
        return decoded

    def decode(self, z: Tensor) -> Tensor:
        """Embeddings (B,*grid,D) in the encoder's own units."""
        return self.decode_standardised(z) * self.std + self.mean

    def loss(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(loss, squared error, KL) at unit noise (B,*grid,d), each summed over an image and averaged over the batch.

        loss = squared error + kl_weight · KL.
        """
        image_axes = tuple(range(1, x.ndim))
        mean, logvar = self.encode(x)
        z = posterior_sample(mean, (logvar / 2).exp(), noise)
        error = (self.decode_standardised(z) - self.standardise(x)).square().sum(image_axes).mean()
        divergence = kl(mean, logvar).sum(image_axes).mean()
        return error + self.kl_weight * divergence, error, divergence

    @torch.no_grad()
    def start_from_pca(self, covariance: Tensor, centre: Tensor | None = None) -> None:
        """Start the linear maps at the optimum of the linear VAE for patches of this covariance (D,D) and mean (D,), else 0.

        With σ² = kl_weight / 2 the loss is that of probabilistic PCA (Lucas et al. 2019): decoder U(Λ − σ²)^½,
        posterior mean (Λ − σ²)^½ Λ⁻¹ Uᵀx and variance σ² Λ⁻¹; channels with Λ ≤ σ² stay closed.
        """
        channels = self.to_embedding.in_features
        noise = max(self.kl_weight / 2, 1e-6)
        values, vectors = torch.linalg.eigh(covariance.double())
        values, vectors = values.flip(0)[:channels], vectors.flip(1)[:, :channels]
        values = values.clamp(min=noise)
        root = (values - noise).sqrt()
        self.to_embedding.weight.copy_(vectors * root)
        self.to_embedding.bias.zero_()
        self.to_posterior.weight.zero_()
        self.to_posterior.weight[:channels] = ((root / values)[:, None] * vectors.mT).float()
        self.to_posterior.bias.zero_()
        self.to_posterior.bias[channels:] = (noise / values).log().float()
        if centre is not None:
            self.to_embedding.bias.copy_(centre)
            self.to_posterior.bias[:channels] = -(self.to_posterior.weight[:channels] @ centre.float())


class GridLayer(nn.Module):
    """One pre-norm transformer layer over the grid (Vaswani et al. 2017), the identity at its start."""

    def __init__(self, grid: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.heads = next(h for h in (max(1, width // 64), 8, 4, 2, 1) if width % h == 0)
        self.register_buffer("positions", cos_sin_positions(grid, width), persistent=False)
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        for layer in (self.project, self.mlp[-1]):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        x_BND = x.flatten(1, -2)
        packed = self.qkv(self.norm_1(x_BND) + self.positions).unflatten(-1, (3, self.heads, -1))
        q, k, v = packed.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x_BND = x_BND + self.project(attended)
        x_BND = x_BND + self.mlp(self.norm_2(x_BND))
        out: Tensor = x_BND.reshape(x.shape)
        return out


def posterior_sample(mean: Tensor, std: Tensor | None, noise: Tensor | None) -> Tensor:
    """mean + std · noise; the mean itself where there is no std."""
    return mean if std is None or noise is None else mean + std * noise


def kl(mean: Tensor, logvar: Tensor) -> Tensor:
    """KL of N(mean, e^logvar) from N(0, 1), elementwise, in nats."""
    return 0.5 * (mean.square() + logvar.exp() - 1 - logvar)


class VAETask(Task):
    """Trains a VAE on batches of `embeddings` (B,*grid,D), or on `row`s of those that `resident` gives, by Adam.

    `held_out` serves rates that fall on a plateau.
    """

    def __init__(
        self,
        vae: VAE,
        rate: float,
        held_out: Tensor | None = None,
        resident: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.network: VAE = vae
        self.rate, self.held_out, self.resident = rate, held_out, resident

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """Adam."""
        return {"vae": torch.optim.Adam(self.network.parameters(), self.rate, fused=True)}

    def draws(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """`noise` (B,*grid,d)."""
        vae, count = self.network, len(next(iter(batch.values())))
        return {"noise": torch.randn(count, *vae.grid, vae.to_embedding.in_features, generator=generator)}

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor]]:
        """The VAE's loss; its two terms are logged apart."""
        embeddings = batch["embeddings"] if self.resident is None else self.resident(batch["row"])
        loss, error, divergence = self.network.loss(embeddings, batch["noise"])
        self.scalars |= {"error": error.detach(), "kl": divergence.detach()}
        yield "vae", loss

    @torch.no_grad()
    def validate(self) -> float | None:
        """The loss on held-out embeddings with the posterior's mean in place of its samples."""
        if self.held_out is None:
            return None
        x = self.held_out.to(self.network.mean.device)
        mean, logvar = self.network.encode(x)
        error = (self.network.decode_standardised(mean) - self.network.standardise(x)).square().sum()
        return float(error + self.network.kl_weight * kl(mean, logvar).sum()) / len(x)


class Explained:
    """Gathers, batch by batch, how much variance reconstructions keep, in standardised and in raw units."""

    def __init__(self, std_D: Tensor) -> None:
        self.variance_D = std_D.double().square()
        self.count = 0
        self.sums = torch.zeros(3, len(std_D), dtype=torch.float64, device=std_D.device)

    def add(self, truth: Tensor, error: Tensor) -> None:
        """Takes standardised embeddings (B,*grid,D) and the errors of their reconstructions."""
        truth, error = truth.flatten(0, -2).double(), error.flatten(0, -2).double()
        self.count += len(truth)
        self.sums += torch.stack([truth.sum(0), truth.square().sum(0), error.square().sum(0)])

    def r2(self) -> tuple[float, float]:
        """R² in standardised and in raw units."""
        total, square, error = self.sums
        total_square = square - total.square() / self.count
        standardised = 1 - error.sum() / total_square.sum()
        raw = 1 - (error * self.variance_D).sum() / (total_square * self.variance_D).sum()
        return float(standardised), float(raw)


def components(covariance: Tensor, channels: int) -> Tensor:
    """The first principal directions (D, channels) of a covariance (D,D), f64."""
    directions: Tensor = torch.linalg.eigh(covariance.double())[1].flip(1)[:, :channels]
    return directions
