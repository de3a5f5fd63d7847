"""Confidence intervals, each by the method that suits its statistic."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Z95 = 1.959963984540054


def wilson(successes: int, count: int, z: float = Z95) -> tuple[float, float]:
    """Interval of a share; Wilson 1927. Holds at 0 and at `count` too."""
    if count == 0:
        return (0.0, 1.0)
    share = successes / count
    centre = share + z * z / (2 * count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    low = 0.0 if successes == 0 else (centre - spread) / scale
    return (low, 1.0 if successes == count else (centre + spread) / scale)


def group_of(count: int, groups: int, seed: int = 0) -> Tensor:
    """A random group for each of `count` samples, of sizes as equal as can be: (count,) in [0, groups)."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.arange(count) % groups)[torch.randperm(count, generator=generator)]


def jackknife_error(left_out: Sequence[float]) -> float:
    """Standard error from a statistic with one of g groups left out each; Shao & Wu 1989, delete-d jackknife."""
    values = torch.tensor(left_out, dtype=torch.float64)
    g = len(values)
    return float(((g - 1) / g * (values - values.mean()).square().sum()).sqrt())


def jackknife(statistic: Callable[[Tensor], float], count: int, groups: int = 20, seed: int = 0) -> float:
    """Standard error of a statistic of sample indices, by leaving out one of `groups` random groups at a time."""
    member = group_of(count, min(groups, count), seed)
    return jackknife_error([statistic(torch.nonzero(member != g)[:, 0]) for g in range(min(groups, count))])


def centred(value: float, error: float) -> tuple[float, float]:
    """value ± 1.96 standard errors."""
    return (value - Z95 * error, value + Z95 * error)
