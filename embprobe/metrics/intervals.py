"""Confidence intervals, each by the method that suits its statistic."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from embprobe.metrics.estimate import Jackknife

Z95 = 1.959963984540054
GROUPS = 20  # left out one at a time


def wilson(successes: int, count: int, z: float = Z95) -> tuple[float, float]:
    """Interval of a share; Wilson 1927. Holds at 0 and at `count` too."""
    if count == 0:
        return (0.0, 1.0)
    share = successes / count
    centre = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    low = 0.0 if successes == 0 else (centre - half) / scale
    return (low, 1.0 if successes == count else (centre + half) / scale)


def group_of(count: int, groups: int, seed: int = 0) -> Tensor:
    """A random group for each of `count` samples, of sizes as equal as can be: (count,) in [0, groups)."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.arange(count) % groups)[torch.randperm(count, generator=generator)]


def jackknife_error(values_left_out: Sequence[float]) -> float:
    """Standard error from a statistic with one of g groups left out each; Shao & Wu 1989, delete-d jackknife."""
    values = torch.tensor(values_left_out, dtype=torch.float64)
    g = len(values)
    return float(((g - 1) / g * (values - values.mean()).square().sum()).sqrt())


def jackknife(statistic: Callable[[Tensor], float], count: int, groups: int = 20, seed: int = 0) -> float:
    """Standard error of a statistic of sample indices, by leaving out one of `groups` random groups at a time."""
    member = group_of(count, min(groups, count), seed)
    return jackknife_error([statistic(torch.nonzero(member != g)[:, 0]) for g in range(min(groups, count))])


def centred(value: float, error: float, groups: int) -> tuple[float, float]:
    """95 % interval from a jackknife's standard error: Student's t with one degree of freedom less than groups."""
    reach = student(groups - 1) * error
    return (value - reach, value + reach)


def student(freedom: float) -> float:
    """The two-sided 95 % point of Student's t; infinite below one degree of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, 0.975)) if freedom >= 1 else math.inf


# ---- statistics of two sets of images: the samples, and the reference they are measured against


def two_sided(value: float, jackknife: Jackknife) -> tuple[float, float]:
    """95 % interval of a statistic of independent samples and reference: their jackknife variances add."""
    return _welch(value, [jackknife_error(side) for side in jackknife.values()], [len(s) for s in jackknife.values()])


def difference(
    value_a: float, left_a: Jackknife | None, value_b: float, left_b: Jackknife | None, *, paired: bool
) -> tuple[float, float, float] | None:
    """a − b with its 95 % interval; None where a jackknife is missing.

    `paired`: both were measured against the same reference images, grouped alike, so that what the reference adds to
    both cancels. The samples of a and b are independent of each other in any case.
    """
    if not left_a or not left_b:
        return None
    errors = [jackknife_error(left["samples"]) for left in (left_a, left_b) if "samples" in left]
    sizes = [len(left["samples"]) for left in (left_a, left_b) if "samples" in left]
    ours, theirs = left_a.get("reference", []), left_b.get("reference", [])
    if paired and len(ours) == len(theirs):
        pairs = [x - y for x, y in zip(ours, theirs, strict=True)]
        errors, sizes = (
            [*errors, *([jackknife_error(pairs)] if pairs else [])],
            [*sizes, *([len(pairs)] if pairs else [])],
        )
    else:
        errors += [jackknife_error(side) for side in (ours, theirs) if side]
        sizes += [len(side) for side in (ours, theirs) if side]
    return (value_a - value_b, *_welch(value_a - value_b, errors, sizes))


def _welch(value: float, errors: Sequence[float], groups: Sequence[int]) -> tuple[float, float]:
    """Independent errors added; degrees of freedom after Welch 1947 and Satterthwaite 1946."""
    variance = sum(e * e for e in errors)
    if variance == 0:
        return (value, value)
    freedom = variance**2 / sum(e**4 / max(1, g - 1) for e, g in zip(errors, groups, strict=True))
    reach = student(freedom) * math.sqrt(variance)
    return (value - reach, value + reach)
