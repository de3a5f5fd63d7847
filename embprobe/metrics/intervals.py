"""Confidence intervals, each by the method that suits its statistic."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from embprobe.metrics.estimate import Spread, mean_square

Z95 = 1.959963984540054
GROUPS = 20  # left out one at a time


def wilson(successes: float, count: float, z: float = Z95) -> tuple[float, float]:
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


def two_tailed(size: float, variance: float, freedom: float) -> float:
    """How likely chance alone moves a difference of none so far, by Student's t; 1 where nothing is known to vary."""
    from scipy.special import stdtr

    if variance <= 0 or freedom < 1:
        return 1.0
    return float(2 * stdtr(freedom, -abs(size) / math.sqrt(variance)))


def welch(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Sum of independent (variance, freedom) and its degrees of freedom; Satterthwaite 1946, Welch 1947."""
    variance = sum(v for v, _ in parts)
    if variance <= 0:
        return 0.0, 1.0
    return variance, variance**2 / sum(v * v / max(1.0, freedom) for v, freedom in parts)


def holm(probabilities: Sequence[float]) -> list[float]:
    """p-values corrected for their number, so that any false claim at all is as rare as one was; Holm 1979."""
    order = sorted(range(len(probabilities)), key=probabilities.__getitem__)
    corrected, least = [1.0] * len(order), 0.0
    for place, i in enumerate(order):
        least = max(least, min(1.0, (len(order) - place) * probabilities[i]))
        corrected[i] = least
    return corrected


# ---- statistics of two sets of images: the samples, and the reference they are measured against


def left_out(samples: Sequence[float], reference: Sequence[float] = ()) -> Spread:
    """The spread of a statistic from its values with each group of samples, or of the reference, left out."""
    g = len(reference)
    mean = sum(reference) / g if g else 0.0
    contrasts = tuple(v - mean for v in reference)
    return Spread(jackknife_error(samples) ** 2, len(samples) - 1, contrasts, max(0.0, g - 1.0))


def interval(value: float, spread: Spread) -> tuple[float, float]:
    """95 % interval of a statistic of samples and reference, whose variances add."""
    variance, freedom = welch([(spread.samples, spread.freedom), _of_reference(spread)])
    reach = student(freedom) * math.sqrt(variance)
    return (value - reach, value + reach)


def share_interval(share: float, count: int, spread: Spread) -> tuple[float, float]:
    """Wilson's interval of a share of `count` images, at the count that would vary as much; Korn & Graubard 1998."""
    plain = share * (1 - share)
    effective = plain / spread.variance if plain > 0 and spread.variance > 0 else count
    _, freedom = welch([(spread.samples, spread.freedom), _of_reference(spread)])
    return wilson(share * effective, effective, student(max(2.0, freedom)) if plain > 0 else Z95)


def averaged(spreads: Sequence[Spread]) -> Spread:
    """The spread of the mean of values of independent samples, measured against the same reference."""
    n = len(spreads)
    variance, freedom = welch([(s.samples / n**2, s.freedom) for s in spreads])
    first = spreads[0]
    if any(len(s.reference) != len(first.reference) or s.scale != first.scale for s in spreads):
        apart = (
            sum(s.of_reference for s in spreads) / n
        )  # chosen otherwise, so nothing can be subtracted: as if the same
        return Spread(variance, freedom, (math.sqrt(apart),), 1.0)
    contrasts = tuple(sum(c) / n for c in zip(*(s.reference for s in spreads), strict=True))
    return Spread(variance, freedom, contrasts, first.scale, sum(s.noise for s in spreads) / n**2)


def sampling(a: Spread, b: Spread, *, paired: bool) -> tuple[float, float]:
    """Variance and freedom of a − b from the choice of images.

    `paired`: both were measured against the same reference images, so that what these add to both cancels. The samples
    are independent in any case.
    """
    parts = [(a.samples, a.freedom), (b.samples, b.freedom)]
    if paired and len(a.reference) == len(b.reference) and a.scale == b.scale:
        apart = tuple(x - y for x, y in zip(a.reference, b.reference, strict=True))
        parts.append((max(0.0, a.scale * mean_square(apart) - a.noise - b.noise), _freedom(a)))
    else:
        parts += [_of_reference(a), _of_reference(b)]
    return welch(parts)


def _of_reference(spread: Spread) -> tuple[float, float]:
    return spread.of_reference, _freedom(spread)


def _freedom(spread: Spread) -> float:
    return max(1.0, len(spread.reference) - 1.0)
