"""Sampling: from noise to latents by a trained network, step by step, with guidance; and the noise itself."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from embprobe.diffusion import TIMES, Network, Objective, Schedule
from embprobe.errors import UserError

Predict = Callable[[Tensor, int], tuple[Tensor, Tensor]]
"""(z, number of the step) -> (clean, noise) that the network sees in z."""
FreshNoise = Callable[[int], Tensor]
"""Number of the step -> unit noise of z's shape."""

BLOCK = 64


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance: null + scale · (conditional − null) (Ho & Salimans 2022).

    `null_condition` is one condition (…). Outside `interval`, in shares of the 1000 times, there is no guidance
    (Kynkäänniemi et al. 2024).
    """

    null_condition: Tensor
    scale: float
    interval: tuple[float, float] = (0.0, 1.0)

    def at(self, time: float) -> bool:
        """Whether it acts at this time."""
        return self.scale != 1 and self.interval[0] * TIMES <= time <= self.interval[1] * TIMES

    def __call__(self, network: Network, z: Tensor, time_B: Tensor, condition: Tensor) -> Tensor:
        """The guided prediction, by one pass over both halves."""
        both = torch.cat([condition, self.null_condition.to(condition, non_blocking=True).expand_as(condition)])
        conditional, free = network(torch.cat([z, z]), torch.cat([time_B, time_B]), both).chunk(2)
        return free + self.scale * (conditional - free)


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
    guidance: Guidance | None = None,
    eta: float = 0.0,
    fresh: FreshNoise | None = None,
) -> Tensor:
    """Latents (B,d,*grid) from unit noise of that shape, in `count` steps of a sampler of `SAMPLERS`.

    The CPU waits for nothing on the way. `fresh` gives the new noise that `eta` > 0 needs. Raises UserError if the sampler
    can't use the objective or `eta`.
    """
    check_sampler(sampler, schedule.objective)
    chosen = SAMPLERS[sampler]
    steps = chosen.steps(schedule, count)

    def predict(z: Tensor, i: int) -> tuple[Tensor, Tensor]:
        time_B = torch.full((len(z),), steps.times[i], dtype=torch.float32, device=z.device)
        if guidance is not None and condition is not None and guidance.at(steps.times[i]):
            prediction = guidance(network, z, time_B, condition).float()
        else:
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
