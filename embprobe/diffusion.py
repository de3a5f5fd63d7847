"""Diffusion: noise schedules, objectives, the training loss, guidance and samplers, as functions of tensors."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from embprobe.errors import UserError

Objective = Literal["epsilon", "v", "flow"]
Sampler = Literal["ddim", "dpm++", "euler"]
Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(z_BdKK, time_B in [0, 1000], label_B or None) -> prediction of the objective, BdKK."""

TIMES = 1000
BLOCK = 64
SAMPLERS: dict[Objective, tuple[Sampler, ...]] = {
    "epsilon": ("ddim", "dpm++"),
    "v": ("ddim", "dpm++"),
    "flow": ("euler", "dpm++"),
}


def dimension_shift(elements: int) -> float:
    """α = √(m/4096) for latents of m elements (Esser et al. 2024, eq. 23, with 16×16×16 as the base)."""
    return math.sqrt(elements / 4096)


@dataclass(frozen=True)
class Schedule:
    """Noise levels z = α z₀ + σ ε over time in [0, 1000], and what the network predicts.

    `epsilon` and `v` use latent diffusion's betas, linear in √β from 0.0015 to 0.0155 (Rombach et al. 2022); `shift`
    s moves their log-SNR by −2 log s. `flow` is the straight path σ = time/1000, α = 1 − σ (Lipman et al. 2023), and
    `shift` s moves t to s t / (1 + (s − 1) t), which is the same move of the log-SNR (Esser et al. 2024).
    """

    objective: Objective
    shift: float = 1.0

    @cached_property
    def alphas_bar(self) -> Tensor:
        """ᾱ of the 1000 times of `epsilon` and `v`, f64."""
        betas = torch.linspace(0.0015**0.5, 0.0155**0.5, TIMES, dtype=torch.float64).square()
        logsnr = torch.logit(torch.cumprod(1 - betas, 0))
        return torch.sigmoid(logsnr - 2 * math.log(self.shift))

    def levels(self, time_B: Tensor) -> tuple[Tensor, Tensor]:
        """(α_B, σ_B) at these times, in the dtype of `time_B`; `epsilon` and `v` round to whole times."""
        if self.objective == "flow":
            sigma_B = time_B / TIMES
            return 1 - sigma_B, sigma_B
        bar_B = self.alphas_bar.to(time_B.device)[time_B.round().long()]
        return bar_B.sqrt().to(time_B.dtype), (1 - bar_B).sqrt().to(time_B.dtype)

    def draw(self, count: int, device: torch.device) -> Tensor:
        """Training times (count,), from the global generator: uniform, or logit-normal for `flow`."""
        if self.objective == "flow":
            return TIMES * self.shifted(torch.sigmoid(torch.randn(count, device=device)))
        return torch.randint(TIMES, (count,), device=device).float()

    def shifted(self, t: Tensor) -> Tensor:
        return self.shift * t / (1 + (self.shift - 1) * t)

    def target(self, clean: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """What the network should predict."""
        if self.objective == "epsilon":
            return noise
        if self.objective == "v":
            return alpha * noise - sigma * clean  # Salimans & Ho 2022, appendix D
        return noise - clean

    def split(self, prediction: Tensor, z: Tensor, alpha: float, sigma: float) -> tuple[Tensor, Tensor]:
        """(clean, noise) that a prediction at z = α clean + σ noise stands for."""
        if self.objective == "epsilon":
            return (z - sigma * prediction) / alpha, prediction
        if self.objective == "v":
            return alpha * z - sigma * prediction, sigma * z + alpha * prediction
        return z - sigma * prediction, z + alpha * prediction

    def grid(self, sampler: Sampler, steps: int) -> tuple[list[float], list[float], list[float]]:
        """Times (steps,), and α, σ (steps + 1,) of a sampler; the last level is where it ends.

        DDIM: `leading` spacing with offset 1, ending at ᾱ₀, as in latent diffusion. DPM-Solver++: evenly from 999 to 0,
        then to σ = 0 (diffusers' `linspace` leaves time 0 out, and with it up to σ² of the variance). `flow`: t from
        1 to 0, evenly spaced before the shift.
        """
        if self.objective == "flow":
            t = self.shifted(torch.linspace(1, 0, steps + 1, dtype=torch.float64))
            return (TIMES * t[:-1]).tolist(), (1 - t).tolist(), t.tolist()
        if sampler == "ddim":
            times = (np.arange(steps) * (TIMES // steps) + 1).clip(max=TIMES - 1)[::-1]
            last = self.alphas_bar[:1]
        else:
            times = np.linspace(TIMES - 1, 0, steps).round().astype(np.int64)
            last = torch.ones(1, dtype=torch.float64)
        bar = torch.cat([self.alphas_bar[times.copy()], last])
        return times.astype(float).tolist(), bar.sqrt().tolist(), (1 - bar).sqrt().tolist()


def latent_scale(std_d: np.ndarray) -> np.ndarray:
    """What latents are divided by: their std, at least 0.01, so that closed channels stay at 0, not noise; f32."""
    scale: np.ndarray = np.maximum(std_d, 0.01).astype(np.float32)
    return scale


def loss(
    network: Network,
    clean_BdKK: Tensor,
    schedule: Schedule,
    label_B: Tensor | None = None,
    *,
    norm: Literal["l1", "l2"] = "l2",
    min_snr: float | None = None,
) -> Tensor:
    """Mean training loss; times and noise come from the global generator.

    `min_snr` γ weights `v` by min(SNR, γ)/(SNR + 1) and `epsilon` by min(SNR, γ)/SNR (Hang et al. 2023).
    """
    time_B = schedule.draw(len(clean_BdKK), clean_BdKK.device)
    noise = torch.randn_like(clean_BdKK)
    alpha_B, sigma_B = schedule.levels(time_B)
    alpha, sigma = alpha_B[:, None, None, None], sigma_B[:, None, None, None]
    prediction = network(alpha * clean_BdKK + sigma * noise, time_B, label_B).float()
    error = prediction - schedule.target(clean_BdKK, noise, alpha, sigma)
    each_B = (error.abs() if norm == "l1" else error.square()).mean((1, 2, 3))
    if min_snr is None or schedule.objective == "flow":
        return each_B.mean()
    snr_B = (alpha_B / sigma_B).square()
    return (each_B * snr_B.clamp(max=min_snr) / (snr_B + (schedule.objective == "v"))).mean()


def drop_labels(label_B: Tensor, null: int, share: float) -> Tensor:
    """Replace a share of the labels by the null class, by the global generator (Ho & Salimans 2022)."""
    return torch.where(torch.rand(label_B.shape, device=label_B.device) < share, null, label_B)


def guided(
    network: Network, label_B: Tensor, null: int, scale: float, interval: tuple[float, float] = (0.0, 1.0)
) -> Network:
    """The network with classifier-free guidance: null + scale · (conditional − null) (Ho & Salimans 2022).

    Outside `interval`, in shares of the 1000 times, there is no guidance (Kynkäänniemi et al. 2024).
    """

    everywhere = interval == (0.0, 1.0)

    def predict(z: Tensor, time_B: Tensor, _: Tensor | None) -> Tensor:
        if scale == 1 or not (everywhere or interval[0] * TIMES <= float(time_B[0]) <= interval[1] * TIMES):
            return network(z, time_B, label_B)
        labels = torch.cat([label_B, torch.full_like(label_B, null)])
        conditional, free = network(torch.cat([z, z]), torch.cat([time_B, time_B]), labels).chunk(2)
        return free + scale * (conditional - free)

    return predict


def check_sampler(sampler: str, objective: Objective) -> None:
    """Raise UserError if this sampler can't use a network trained on this objective."""
    if sampler not in SAMPLERS[objective]:
        fits = " or ".join(SAMPLERS[objective])
        raise UserError(f'--sampler {sampler} cannot use a denoiser trained on objective "{objective}"; give {fits}')


def sample(
    network: Network,
    noise_BdKK: Tensor,
    schedule: Schedule,
    sampler: Sampler,
    steps: int,
    label_B: Tensor | None = None,
    *,
    eta: float = 0.0,
    fresh: Callable[[int], Tensor] | None = None,
) -> Tensor:
    """Latents (B,d,K,K) from unit noise of that shape; `fresh(step)` gives the new noise that `eta` > 0 needs."""
    check_sampler(sampler, schedule.objective)
    times, alphas, sigmas = schedule.grid(sampler, steps)

    def predict(z: Tensor, i: int) -> tuple[Tensor, Tensor]:
        time_B = torch.full((len(z),), times[i], dtype=torch.float32, device=z.device)
        return schedule.split(network(z, time_B, label_B).float(), z, alphas[i], sigmas[i])

    if sampler == "dpm++":
        return dpm_solver(predict, noise_BdKK, alphas, sigmas)
    if sampler == "euler" or eta == 0:
        return ddim(predict, noise_BdKK, alphas, sigmas)
    if fresh is None:
        raise ValueError("eta > 0 needs fresh noise at every step")
    return ddim(predict, noise_BdKK, alphas, sigmas, eta, fresh)


Predict = Callable[[Tensor, int], tuple[Tensor, Tensor]]


def ddim(
    predict: Predict,
    z: Tensor,
    alphas: list[float],
    sigmas: list[float],
    eta: float = 0.0,
    fresh: Callable[[int], Tensor] | None = None,
) -> Tensor:
    """DDIM (Song et al. 2021, eq. 12 and 16); on the straight path of `flow` with η = 0 it is Euler's method."""
    for i in range(len(alphas) - 1):
        clean, noise = predict(z, i)
        alpha, sigma = alphas[i + 1], sigmas[i + 1]
        if eta == 0 or fresh is None:
            z = alpha * clean + sigma * noise
            continue
        spread = eta * sigma / sigmas[i] * math.sqrt(max(0.0, 1 - (alphas[i] / alpha) ** 2))
        z = alpha * clean + math.sqrt(max(0.0, sigma**2 - spread**2)) * noise + spread * fresh(i)
    return z


def dpm_solver(predict: Predict, z: Tensor, alphas: list[float], sigmas: list[float]) -> Tensor:
    """DPM-Solver++(2M), first order at both ends (Lu et al. 2022, algorithm 2)."""
    logs = [
        math.log(a) - math.log(s) if a and s else math.inf * (1 if a else -1)
        for a, s in zip(alphas, sigmas, strict=True)
    ]
    before: Tensor | None = None
    for i in range(len(alphas) - 1):
        clean, _ = predict(z, i)
        step, last = logs[i + 1] - logs[i], len(alphas) - 2
        slope = clean
        if before is not None and i < last:
            slope = clean + (clean - before) * step / (2 * (logs[i] - logs[i - 1]))
        z = sigmas[i + 1] / sigmas[i] * z - alphas[i + 1] * math.expm1(-step) * slope
        before = clean
    return z


def block_seed(seed: int, *path: int) -> int:
    """A 64-bit seed for one block of one kind of draw."""
    return int(np.random.SeedSequence((seed, *path)).generate_state(1, np.uint64)[0])


def noise_blocks(seed: int, first: int, count: int, shape: tuple[int, ...], draw: int = 0) -> Tensor:
    """Unit noise (count, *shape), f32 on the CPU, of samples `first` and following.

    Drawn in blocks of 64 samples seeded by (seed, draw, block), so it depends on neither batch size nor device.
    """
    blocks = []
    for block in range(first // BLOCK, -(-(first + count) // BLOCK)):
        generator = torch.Generator().manual_seed(block_seed(seed, draw, block))
        blocks.append(torch.randn(BLOCK, *shape, generator=generator))
    start = first % BLOCK
    return torch.cat(blocks)[start : start + count]
