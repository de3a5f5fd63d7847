"""Diffusion: noise schedules, objectives, the training loss, guidance and samplers, as functions of tensors."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from embprobe.errors import UserError

Objective = Literal["epsilon", "v", "flow"]
Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(z (B,d,*grid), time_B in [0, 1000], condition (B,…) or None) -> prediction of the objective, of z's shape."""
Predict = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(z, number of the step) -> (clean, noise) that the network sees in z."""
FreshNoise = Callable[[int], Tensor]
"""Number of the step -> unit noise of z's shape."""

TIMES = 1000
BETAS = (0.0015, 0.0155)
BLOCK = 64


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


# ---- training


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


# ---- sampling


def guided(
    network: Network,
    condition: Tensor,
    null_condition: Tensor,
    scale: float,
    interval: tuple[float, float] = (0.0, 1.0),
) -> Network:
    """The network with classifier-free guidance: null + scale · (conditional − null) (Ho & Salimans 2022).

    `condition` is (B,…), `null_condition` one of them. Outside `interval`, in shares of the 1000 times, there is no
    guidance (Kynkäänniemi et al. 2024).
    """
    everywhere = interval == (0.0, 1.0)
    both = torch.cat([condition, null_condition.to(condition).expand_as(condition)])

    def predict(z: Tensor, time_B: Tensor, _: Tensor | None) -> Tensor:
        if scale == 1 or not (everywhere or interval[0] * TIMES <= float(time_B[0]) <= interval[1] * TIMES):
            return network(z, time_B, condition)
        conditional, free = network(torch.cat([z, z]), torch.cat([time_B, time_B]), both).chunk(2)
        return free + scale * (conditional - free)

    return predict


class Steps(NamedTuple):
    """Where a sampler goes: times (steps,), and levels α, σ (steps + 1,), the last of which is where it ends."""

    times: list[float]
    alphas: list[float]
    sigmas: list[float]


def leading_steps(schedule: Schedule, count: int) -> Steps:
    """Every 1000/count-th time from 1 on, ending at ᾱ₀, as in latent diffusion."""
    times = (np.arange(count) * (TIMES // count) + 1).clip(max=TIMES - 1)[::-1]
    return _steps_at(schedule, times, schedule.alphas_bar[:1])


def even_steps(schedule: Schedule, count: int) -> Steps:
    """Evenly from the last time to σ = 0; for `flow` evenly before the shift.

    diffusers' `linspace` leaves time 0 out, and with it up to σ² of the variance.
    """
    if schedule.objective == "flow":
        t = schedule.shifted(torch.linspace(1, 0, count + 1, dtype=torch.float64))
        return Steps((TIMES * t[:-1]).tolist(), (1 - t).tolist(), t.tolist())
    times = np.linspace(TIMES - 1, 0, count).round().astype(np.int64)
    return _steps_at(schedule, times, torch.ones(1, dtype=torch.float64))


def _steps_at(schedule: Schedule, times: np.ndarray, last_bar: Tensor) -> Steps:
    bar = torch.cat([schedule.alphas_bar[times.copy()], last_bar])
    return Steps(times.astype(float).tolist(), bar.sqrt().tolist(), (1 - bar).sqrt().tolist())


def ddim(predict: Predict, z: Tensor, steps: Steps, eta: float = 0.0, fresh: FreshNoise | None = None) -> Tensor:
    """DDIM (Song et al. 2021, eq. 12 and 16); on the straight path of `flow` with η = 0 it is Euler's method."""
    _, alphas, sigmas = steps
    for i in range(len(alphas) - 1):
        clean, noise = predict(z, i)
        alpha, sigma = alphas[i + 1], sigmas[i + 1]
        if eta == 0 or fresh is None:
            z = alpha * clean + sigma * noise
            continue
        added = eta * sigma / sigmas[i] * math.sqrt(max(0.0, 1 - (alphas[i] / alpha) ** 2))
        z = alpha * clean + math.sqrt(max(0.0, sigma**2 - added**2)) * noise + added * fresh(i)
    return z


def dpm_solver(predict: Predict, z: Tensor, steps: Steps) -> Tensor:
    """DPM-Solver++(2M), first order at both ends (Lu et al. 2022, algorithm 2)."""
    _, alphas, sigmas = steps
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


@dataclass(frozen=True)
class Sampler:
    """A way from noise to latents: how it steps, where its steps lie, for which objectives."""

    integrate: Callable[..., Tensor]  # (predict, z, steps), and (eta, fresh noise) if `stochastic`
    steps: Callable[[Schedule, int], Steps]
    objectives: tuple[Objective, ...]
    spacing: str  # where the steps lie, in words
    stochastic: bool = False


SAMPLERS = {
    "ddim": Sampler(
        *(ddim, leading_steps, ("epsilon", "v")), "leading, offset 1, to the first of 1000 levels, no clipping", True
    ),
    "euler": Sampler(ddim, even_steps, ("flow",), "even in time, then shifted"),
    "dpm++": Sampler(dpm_solver, even_steps, ("epsilon", "v", "flow"), "evenly from the last time to 0, no clipping"),
}


def check_sampler(sampler: str, objective: Objective) -> None:
    """Raise UserError if this sampler can't use a network trained on this objective."""
    fitting = [name for name, known in SAMPLERS.items() if objective in known.objectives]
    if sampler not in fitting:
        raise UserError(
            f'--sampler {sampler} cannot use a denoiser trained on objective "{objective}"; give {" or ".join(fitting)}'
        )


def sample(
    network: Network,
    noise: Tensor,
    schedule: Schedule,
    sampler: str,
    count: int,
    condition: Tensor | None = None,
    *,
    eta: float = 0.0,
    fresh: FreshNoise | None = None,
) -> Tensor:
    """Latents (B,d,*grid) from unit noise of that shape, in `count` steps of a sampler of `SAMPLERS`.

    `fresh` gives the new noise that `eta` > 0 needs. Raises UserError if the sampler can't use the objective or `eta`.
    """
    check_sampler(sampler, schedule.objective)
    chosen = SAMPLERS[sampler]
    steps = chosen.steps(schedule, count)

    def predict(z: Tensor, i: int) -> tuple[Tensor, Tensor]:
        time_B = torch.full((len(z),), steps.times[i], dtype=torch.float32, device=z.device)
        prediction = network(z, time_B, condition).float()
        return schedule.clean_and_noise(prediction, z, steps.alphas[i], steps.sigmas[i])

    if eta == 0:
        return chosen.integrate(predict, noise, steps)
    if not chosen.stochastic:
        raise UserError(f"--eta has no meaning for --sampler {sampler}; leave it out")
    if fresh is None:
        raise ValueError("eta > 0 needs fresh noise at every step")
    return chosen.integrate(predict, noise, steps, eta, fresh)


# ---- noise


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
