"""Energies E(x, y) = ‖P(Enc(x)) − Enc(y)‖ of predicted and true patches (LeCun 2022), and what they tell; pure."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.intervals import GROUPS, centred, group_of, jackknife, jackknife_error, wilson

FLOOR = 0.01  # of the mean variance, added to each before whitening: directions of no variance would decide all


def energy(predicted: Tensor, true: Tensor, map_PP: Tensor | None = None) -> Tensor:
    """Distances (…,) of predictions and truths (…,P), in the units of the map where one is given."""
    apart = predicted - true
    length: Tensor = torch.linalg.vector_norm(apart if map_PP is None else apart @ map_PP, dim=-1)
    return length


def whitening(covariance_PP: Tensor) -> Tensor:
    """The symmetric map (P,P), f64, in whose units a truth lies at a squared distance of about 1 from the mean."""
    values, vectors = torch.linalg.eigh(covariance_PP.double())
    level = values.clamp_min(0).mean().clamp_min(1e-12)
    scale = (values.clamp_min(0) + FLOOR * level).rsqrt() / math.sqrt(len(values))
    map_PP: Tensor = (vectors * scale) @ vectors.mT
    return map_PP


def better_than_mean(error_N: Tensor, of_mean_N: Tensor) -> Estimate:
    """R² of predictions: 1 − Σ error / Σ error of the mean predictor, squared errors of each image, f64."""
    return _ratio(error_N, of_mean_N, lambda share: 1 - share)


def gain(error_N: Tensor, of_mean_N: Tensor) -> Estimate:
    """By how many dB predictions are nearer to the truth than the mean predictor's, from squared errors, f64."""
    return _ratio(error_N, of_mean_N, lambda share: -10 * math.log10(max(share, 1e-12)))


def _ratio(error_N: Tensor, of_mean_N: Tensor, told: Callable[[float], float]) -> Estimate:
    """A function of Σ error / Σ error of the mean, with a 95 % delete-group jackknife over images."""

    def statistic(rows: Tensor) -> float:
        return told(float(error_N[rows].sum() / of_mean_N[rows].sum().clamp_min(1e-300)))

    count = len(error_N)
    if count < 3 or float(of_mean_N.sum()) <= 0:
        return Estimate(math.nan)
    value = statistic(torch.arange(count))
    return Estimate(value, *centred(value, jackknife(statistic, count), min(GROUPS, count)))


def auc(true_N: Tensor, swapped_M: Tensor) -> float:
    """How often a true pair has less energy than a swapped one; half where they tie (Mann & Whitney 1947)."""
    ordered = swapped_M.sort().values
    below = torch.searchsorted(ordered, true_N).double()
    upto = torch.searchsorted(ordered, true_N, right=True).double()
    return float(1 - (below + upto).mean() / (2 * len(ordered)))


def told_apart(true_N: Tensor, swapped_NS: Tensor, partner_NS: Tensor) -> Estimate:
    """AUC of the energies (N,) of N true pairs against swapped ones (N,S), the y of image `partner_NS` in each.

    The 95 % interval is a delete-group jackknife over images: with an image go all pairs that it is in. Where all or none
    are told apart nothing varies, and it is Wilson's over images.
    """
    count, groups = len(true_N), min(GROUPS, len(true_N))
    value = auc(true_N, swapped_NS.flatten())
    member = group_of(count, groups)
    left = []
    for group in range(groups):
        stays = member != group
        pairs = stays[:, None] & stays[partner_NS]
        left.append(auc(true_N[stays], swapped_NS[pairs]))
    low, high = centred(value, jackknife_error(left), groups) if 0 < value < 1 else wilson(value * count, count)
    return Estimate(value, max(0.0, low), min(1.0, high))


def partners(count: int, each: int, seed: int) -> Tensor:
    """For each image `each` others (count, each), by a seeded order in which all stand on a circle."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    place = order.argsort()
    steps = 1 + torch.arange(min(each, count - 1))
    return order[(place[:, None] + steps) % count]
