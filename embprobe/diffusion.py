"""Diffusion: noise schedules, objectives and the training loss, as functions of tensors."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

Objective = Literal["epsilon", "v", "flow"]
Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(z (B,d,*grid), time_B in [0, 1000], condition (B,…) or None) -> prediction of the objective, of z's shape."""

TIMES = 1000
BETAS = (0.0015, 0.0155)


def dimension_shift(elements: int) -> float:
    """α = √(m/4096) for latents of m elements (Esser et al. 2024, eq. 23, with 16×16×16 as the base)."""
    return math.sqrt(elements / 4096)


@dataclass(frozen=True)
class Schedule:
    """Noise levels z = α z₀ + σ ε over time in [0, 1000], and what the network predicts.

    `epsilon` and `v` use latent diffusion's betas, linear in √β between the two of `betas` (Rombach et al. 2022); `shift`
    s moves their log-SNR by −2 log s. `flow` is the straight path σ = time/1000, α = 1 − σ (Lipman et al. 2023), and
    `shift` s moves t to s t / (1 + (s − 1) t), which is the same move of the log-SNR (Esser et al. 2024).
    """

    objective: Objective
    shift: float = 1.0
    betas: tuple[float, float] = BETAS

    @cached_property
    def alphas_bar(self) -> Tensor:
        """ᾱ of the 1000 times of `epsilon` and `v`, f64."""
        first, last = self.betas
        betas = torch.linspace(first**0.5, last**0.5, TIMES, dtype=torch.float64).square()
        logsnr = torch.logit(torch.cumprod(1 - betas, 0))
        return torch.sigmoid(logsnr - 2 * math.log(self.shift))

    def levels(self, time_B: Tensor) -> tuple[Tensor, Tensor]:
        """(α_B, σ_B) at these times, in the dtype of `time_B`; `epsilon` and `v` round to whole times."""
        if self.objective == "flow":
            sigma_B = time_B / TIMES
            return 1 - sigma_B, sigma_B
        bar_B = self.alphas_bar.to(time_B.device)[time_B.round().long()]
        return bar_B.sqrt().to(time_B.dtype), (1 - bar_B).sqrt().to(time_B.dtype)

    def times(self, count: int, generator: torch.Generator) -> Tensor:
        """Training times (count,) f32, on the CPU: uniform, or logit-normal for `flow`."""
        if self.objective == "flow":
            return TIMES * self.shifted(torch.sigmoid(torch.randn(count, generator=generator)))
        return torch.randint(TIMES, (count,), generator=generator).float()

    def shifted(self, t: Tensor) -> Tensor:
        """Times of `flow` in [0, 1], moved by the shift."""
        return (self.shift * t / (1 + (self.shift - 1) * t)).clamp(max=1)  # rounding takes 1 beyond itself

    def target(self, clean: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """What the network should predict."""
        if self.objective == "epsilon":
            return noise
        if self.objective == "v":
            return alpha * noise - sigma * clean  # Salimans & Ho 2022, appendix D
        return noise - clean

    def clean_and_noise(self, prediction: Tensor, z: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor]:
        """What a prediction at z = α clean + σ noise stands for."""
        if self.objective == "epsilon":
            return (z - sigma * prediction) / alpha, prediction
        if self.objective == "v":
            return alpha * z - sigma * prediction, sigma * z + alpha * prediction
        return z - sigma * prediction, z + alpha * prediction


def corruption(schedule: Schedule, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:
    """What training does to clean latents of a shape (B,d,*grid), f32 on the CPU: `time`, `alpha`, `sigma` (B,), `noise`."""
    time_B = schedule.times(shape[0], generator)
    alpha_B, sigma_B = schedule.levels(time_B)
    return {"time": time_B, "alpha": alpha_B, "sigma": sigma_B, "noise": torch.randn(shape, generator=generator)}


def loss(
    network: Network,
    clean: Tensor,
    schedule: Schedule,
    corrupted: Mapping[str, Tensor],
    condition: Tensor | None = None,
    *,
    norm: Literal["l1", "l2"] = "l2",
    min_snr: float | None = None,
) -> Tensor:
    """Mean training loss on clean latents (B,d,*grid) with the times and the noise of a `corruption`.

    `min_snr` γ weights `v` by min(SNR, γ)/(SNR + 1) and `epsilon` by min(SNR, γ)/SNR (Hang et al. 2023).
    """
    alpha_B, sigma_B, noise = corrupted["alpha"], corrupted["sigma"], corrupted["noise"]
    alpha, sigma = (level_B.reshape(-1, *[1] * (clean.ndim - 1)) for level_B in (alpha_B, sigma_B))
    prediction = network(alpha * clean + sigma * noise, corrupted["time"], condition).float()
    error = prediction - schedule.target(clean, noise, alpha, sigma)
    each_B = (error.abs() if norm == "l1" else error.square()).mean(tuple(range(1, clean.ndim)))
    if min_snr is None or schedule.objective == "flow":
        return each_B.mean()
    snr_B = (alpha_B / sigma_B).square()
    return (each_B * snr_B.clamp(max=min_snr) / (snr_B + (schedule.objective == "v"))).mean()


def drop_condition(condition: Tensor, null_condition: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Conditions (B,…), on the CPU, with a share replaced by the null condition (…) (Ho & Salimans 2022)."""
    dropped_B = torch.rand(len(condition), generator=generator) < share
    return torch.where(dropped_B.reshape(-1, *[1] * (condition.ndim - 1)), null_condition.to(condition), condition)
