"""Latents against latents, with no decoder between: a Fréchet distance in units of what real images get."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from embprobe.evaluation.copies import Space
from embprobe.evaluation.figures import estimate
from embprobe.metrics.estimate import Estimate
from embprobe.metrics.frechet import Cloud, Frechet, FrechetInfinity
from embprobe.metrics.intervals import GROUPS, group_of, jackknife_error, left_out
from embprobe.views import seeded_subset

DIRECTIONS = 64  # principal ones, and as many more through all that these leave
LEAST = 8  # vectors on each side
FITTED = 4  # times as many images as are compared tell the directions, where there are so many


def latent_distance(space: Space, train: np.ndarray, held: np.ndarray, seed: int) -> Estimate | None:
    """Fréchet distance of samples' latents from real ones over that of held-out latents; 1 is as good as real.

    Three sets of training and held-out images that share none: some tell the directions and their units, since units and
    scales of latents differ between encoders; the samples and the held-out images are measured against others. So both
    have the same bias. The directions are the first principal ones and random ones through what these leave. Equal
    counts on all three sides; None for too few.
    """
    count = min(len(space.samples), len(held), len(train) // 2)
    if count < LEAST:
        return None
    directions = min(DIRECTIONS, max(1, count // 16), space.samples.shape[1])
    reference = seeded_subset(train, count, seed)
    rest = seeded_subset(np.setdiff1d(train, reference), FITTED * count, seed)
    fitted, real, other = (_vectors(space, rows) for rows in (rest, reference, seeded_subset(held, count, seed)))
    units = own_units(fitted, directions, seed)
    ratio = over_floor(units(space.samples[:count]), units(real), units(other))
    facts = {"count": count, "directions": directions, "fitted": len(rest)}
    return ratio and replace(ratio, facts={**ratio.facts, **facts})


def _vectors(space: Space, rows: np.ndarray) -> Tensor:
    return torch.cat(list(space.blocks(rows)))


def own_units(real_ND: Tensor, directions: int, seed: int) -> Callable[[Tensor], Tensor]:
    """What projects (M,D) on the principal directions of real vectors, and on random ones through the rest.

    Each has unit variance among the real vectors; (M, at most 2·directions).
    """
    centre = real_ND.mean(0)
    centred, width = real_ND - centre, real_ND.shape[1]
    directions = min(directions, width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _, _, basis = torch.svd_lowrank(centred, q=directions, niter=4)
        more = torch.randn(width, min(directions, width - directions))
    if more.shape[1]:
        more = torch.linalg.qr(more - basis @ (basis.mT @ more)).Q
        basis = torch.cat([basis, more], 1)
    deviation = (centred @ basis).std(0)
    basis = basis[:, deviation > 1e-6] / deviation[deviation > 1e-6]
    return lambda vectors: (vectors - centre) @ basis


def over_floor(samples: Tensor, real: Tensor, other: Tensor) -> Estimate | None:
    """1 + the distance of two distributions over what a finite number alone puts between real vectors; all (N,D).

    The distance is extrapolated to infinitely many vectors: what remains of the bias of few would reward samples that
    vary less than they should. `excess` is the distance in the vectors' own units. None where the floor is 0.
    """
    count = len(samples)
    most = min(GROUPS // 2, count // 4)
    beyond, of_floor = FrechetInfinity(samples, real), Frechet(Cloud(other), Cloud(real))
    distance, floor = beyond.value, of_floor.value
    if floor <= 1e-9 * max(1.0, abs(distance)):
        return None
    groups_N, groups = beyond.of_other.groups(most)
    floors = of_floor.of_other.left_out(groups_N, range(groups))
    of_reference = [v / f for v, f in zip(beyond.of_other.left_out(most)[1], floors, strict=True)]
    spread = left_out([v / floor for v in beyond.left_out(most)[1]], of_reference)
    held = jackknife_error([distance / v for v in of_floor.left_out(group_of(count, most, 2), range(most))])
    spread = replace(spread, samples=spread.samples + held**2)
    found = estimate("latent_fd", 1 + distance / floor, spread)
    return replace(found, facts={"excess": distance, "floor_fd": floor})
