"""How a figure falls with size: exponents of its excess over a floor, with intervals over trainings."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from embprobe.metrics.intervals import student, two_tailed

STEPS = "steps"  # the axis along which one training is looked at several times


@dataclass(frozen=True)
class SizedTraining:
    """A training: its size along each axis, and by step the excess of a figure over its floor, above 0."""

    sizes: Mapping[str, float]
    excess: Mapping[int, float]


@dataclass(frozen=True)
class Exponent:
    """excess ∝ size^−value along an axis, with its 95 % interval and how likely chance alone is behind it."""

    axis: str
    value: float
    low: float
    high: float
    p: float
    levels: int  # different sizes that it rests on

    @property
    def doubling(self) -> tuple[float, float, float]:
        """What twice the size multiplies the excess by, and the ends of its interval."""
        return 2**-self.value, 2**-self.high, 2**-self.low


@dataclass(frozen=True)
class Law:
    """log excess = k − Σ exponent · log size. `bends` has the p-value of a straight line where that can be told."""

    exponents: tuple[Exponent, ...]
    bends: Mapping[str, float]
    trainings: int


def fitted(trainings: Sequence[SizedTraining]) -> Law:
    """The power law of some trainings, each of them one independent draw.

    Sizes: least squares over one point a training, at the last step that all share; the interval by Student's t from
    the residuals. Steps: the slope within each training, since its milestones depend on each other; the interval of
    their mean by Student's t over trainings. An axis that can't be told from the others, or with no trainings left to
    say how much they vary, has no exponent.
    """
    of_sizes, bend = _of_sizes(trainings)
    of_steps, bow = _of_steps(trainings)
    bends = {"sizes": bend, STEPS: bow}
    return Law((*of_sizes, *of_steps), {k: p for k, p in bends.items() if p is not None}, len(trainings))


# ---- between trainings


def _of_sizes(trainings: Sequence[SizedTraining]) -> tuple[list[Exponent], float | None]:
    """An exponent for each axis along which trainings differ, and how likely a straight law misses no more than chance."""
    shared = set.intersection(*({*t.excess} for t in trainings)) if trainings else set()
    axes = [axis for axis in (trainings[0].sizes if trainings else ()) if len(_levels(trainings, axis)) > 1]
    freedom = len(trainings) - len(axes) - 1
    if not shared or not axes or freedom < 1:
        return [], None
    y_R = _logs([t.excess[max(shared)] for t in trainings])
    x_Ra = torch.stack([torch.ones_like(y_R), *(_logs([t.sizes[a] for t in trainings]) for a in axes)], 1)
    if int(torch.linalg.matrix_rank(x_Ra)) < x_Ra.shape[1]:
        return [], None
    slopes_a = torch.linalg.lstsq(x_Ra, y_R[:, None]).solution[:, 0]
    missed = float((y_R - x_Ra @ slopes_a).square().sum())
    variances_a = missed / freedom * torch.linalg.inv(x_Ra.mT @ x_Ra).diagonal()
    found = [
        _exponent(axis, -float(slopes_a[i]), float(variances_a[i]), freedom, len(_levels(trainings, axis)))
        for i, axis in enumerate(axes, 1)
    ]
    return found, _lack_of_fit(trainings, y_R, missed, freedom)


def _lack_of_fit(trainings: Sequence[SizedTraining], y_R: Tensor, missed: float, freedom: int) -> float | None:
    """How likely residuals are so much larger than replicates vary; Fisher 1922. None without replicates."""
    from scipy.special import fdtrc

    alike: dict[tuple[float, ...], list[float]] = defaultdict(list)
    for training, y in zip(trainings, y_R.tolist(), strict=True):
        alike[tuple(training.sizes.values())].append(y)
    pure = sum((y - sum(ys) / len(ys)) ** 2 for ys in alike.values() for y in ys)
    of_pure = len(trainings) - len(alike)
    of_lack = freedom - of_pure
    if of_pure < 1 or of_lack < 1 or pure <= 0:
        return None
    return float(fdtrc(of_lack, of_pure, max(0.0, missed - pure) / of_lack / (pure / of_pure)))


# ---- within trainings


def _of_steps(trainings: Sequence[SizedTraining]) -> tuple[list[Exponent], float | None]:
    """The mean slope over steps within trainings, and how likely they are straight."""
    several = [t for t in trainings if len(t.excess) > 1]
    if len(several) < 2:
        return [], None
    slopes = [-_coefficients(t, 1)[-1] for t in several]
    levels = min(len(t.excess) for t in several)
    found = _exponent(STEPS, *_mean(slopes), len(slopes) - 1, levels)
    return [found], _curved([t for t in several if len(t.excess) > 2])


def _curved(trainings: Sequence[SizedTraining]) -> float | None:
    """How likely curvatures over steps are so large where there are none: in the mean, or at any one size.

    Bends of opposite sign cancel in the mean, so that replicates of each size are asked too, by Fisher's F; Bonferroni
    corrects for the two. None where neither can be told.
    """
    from scipy.special import fdtrc

    if len(trainings) < 2:
        return None
    alike: dict[tuple[float, ...], list[float]] = defaultdict(list)
    for training in trainings:
        alike[tuple(training.sizes.values())].append(_coefficients(training, 2)[-1])
    every = [c for curvatures in alike.values() for c in curvatures]
    found = [two_tailed(*_mean(every), len(every) - 1)]
    means = {size: sum(cs) / len(cs) for size, cs in alike.items()}
    pure, of_pure = sum((c - means[size]) ** 2 for size, cs in alike.items() for c in cs), len(every) - len(alike)
    if of_pure > 0 and pure > 0:
        shown = sum(len(cs) * means[size] ** 2 for size, cs in alike.items()) / len(alike)
        found.append(float(fdtrc(len(alike), of_pure, shown / (pure / of_pure))))
    return min(1.0, len(found) * min(found))


def _coefficients(training: SizedTraining, degree: int) -> list[float]:
    """Of a polynomial in log step by least squares, the highest power last."""
    x = _logs(list(training.excess))
    x = x - x.mean()
    powers = torch.stack([x**i for i in range(degree + 1)], 1)
    found: list[float] = (
        torch.linalg.lstsq(powers, _logs(list(training.excess.values()))[:, None]).solution[:, 0].tolist()
    )
    return found


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its variance."""
    mean = sum(values) / len(values)
    return mean, sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values)


# ---- both


def _exponent(axis: str, value: float, variance: float, freedom: int, levels: int) -> Exponent:
    reach = student(freedom) * math.sqrt(variance)
    return Exponent(axis, value, value - reach, value + reach, two_tailed(value, variance, freedom), levels)


def _levels(trainings: Sequence[SizedTraining], axis: str) -> set[float]:
    return {t.sizes[axis] for t in trainings}


def _logs(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).log()
