"""What several networks share: positions, times, choices of tokens, parameter groups, statistics of tokens."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embprobe.metrics.geometry import spectral_rank


def time_features(time_B: Tensor, width: int) -> Tensor:
    """Cosines, then sines (B, width) of times in [0, 1000], f32 (Vaswani et al. 2017)."""
    half = width // 2
    rates = torch.exp(-math.log(10_000) * torch.arange(half, device=time_B.device, dtype=torch.float32) / half)
    angles = time_B.float()[:, None] * rates
    return torch.cat([angles.cos(), angles.sin()], -1)


def cos_sin_positions(grid: tuple[int, ...], width: int) -> Tensor:
    """Fixed positions (tokens, width) in reading order, an equal part for each axis: cosines, then sines, in f32.

    The denoiser's and the VAE's. `sin_cos_positions` differs in order, precision and rates; trained weights depend on
    which one it was.
    """
    part = width // (2 * len(grid)) * 2
    axes = torch.meshgrid(*(torch.arange(side).float() for side in grid), indexing="ij")
    joined = torch.cat([time_features(axis.flatten(), part) for axis in axes], -1)
    return F.pad(joined, (0, width - joined.shape[-1]))


def sin_cos_positions(grid: tuple[int, ...], width: int) -> Tensor:
    """Fixed positions (tokens, width) in reading order: sines, then cosines, taken in f64 (He et al. 2022, appendix A).

    Those of the image encoders that `pretrain` makes.
    """
    rates = 1.0 / 10000 ** (torch.arange(width // (2 * len(grid)), dtype=torch.float64) / (width / (2 * len(grid))))
    axes = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) for side in grid), indexing="ij")
    angles = [axis.flatten()[:, None] * rates for axis in axes]
    joined = torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], -1).float()
    return F.pad(joined, (0, width - joined.shape[-1]))


def gather(x_BLD: Tensor, index_BM: Tensor) -> Tensor:
    """Tokens by index, (B,M,D)."""
    return x_BLD.gather(1, index_BM[:, :, None].expand(-1, -1, x_BLD.shape[2]))


def decay_groups(parameters: Sequence[nn.Parameter], decay: float) -> list[dict[str, object]]:
    """Parameter groups of those that train: matrices decay, biases, norms and tokens do not."""
    trained = [p for p in parameters if p.requires_grad]
    flat = [p for p in trained if p.ndim < 2 or 1 in p.shape[:2]]
    flat_ids = {id(p) for p in flat}
    return [
        {"params": [p for p in trained if id(p) not in flat_ids], "weight_decay": decay},
        {"params": flat, "weight_decay": 0.0},
    ]


def effective_rank(x_ND: Tensor) -> Tensor:
    """exp of the entropy of the normalised singular values of centred features (Roy & Vetterli 2007)."""
    centred = x_ND.double() - x_ND.double().mean(0)
    return spectral_rank(centred.mT @ centred)


@torch.no_grad()
def token_statistics(tokens_BLD: Tensor) -> dict[str, Tensor | float]:
    """Mean per-dimension std and effective rank of tokens; both go to 0 (rank to 1) in a collapse."""
    x = tokens_BLD.detach().float().flatten(0, 1)[:4096]
    return {"std": x.std(0).mean(), "effective_rank": effective_rank(x)} if len(x) > 1 else {}
