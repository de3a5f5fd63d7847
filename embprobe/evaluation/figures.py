"""Figures of one set of images against another, from what a judge saw: values, intervals, floors, classes."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from embprobe.evaluation.judges import Judged
from embprobe.metrics.frechet import (
    frechet_distance,
    frechet_infinity,
    frechet_infinity_jackknife,
    frechet_jackknife,
)
from embprobe.metrics.intervals import GROUPS, LeftOut, group_of, two_sided, wilson
from embprobe.metrics.kernel import kernel_distance, kernel_jackknife
from embprobe.metrics.manifold import compare
from embprobe.metrics.scores import class_shares, inception_score, total_variation

Figure = dict[str, Any]  # Any: JSON; value, low, high, floor and left_out, as metrics.json has them

DISTANCES: dict[str, tuple[Callable[[Tensor, Tensor], float], Callable[..., list[float]], int]] = {
    "fd": (frechet_distance, frechet_jackknife, GROUPS),
    "fd_infinity": (frechet_infinity, frechet_infinity_jackknife, GROUPS // 2),
    "kid": (kernel_distance, kernel_jackknife, GROUPS),
}
BOUNDS = {"fd": (0.0, None), "score": (1.0, None), "tv": (0.0, 1.0), "density": (0.0, None)}
COVERAGE = (  # tests/studies/coverage_study.py
    "measured on Gaussian clouds, 200 draws of 500 against 500 at width 32: FD 94 % of its own mean (and 4 % of the distance "
    "without its bias), FD∞ 94 %, KID 90 %; precision 90 %, coverage 90 %, recall 88 %, authenticity 81 %, density 78 %, since "
    "these leave out the chance of the manifold itself"
)
RELIABLE = 4  # samples a feature dimension that FD∞ wants
SWAP = 0.01  # chance at which a pair of classes would look swapped, over all pairs


def figures(
    made: Judged, real: Judged, k: int, *, errors: bool = True, extrapolated: bool = False
) -> dict[str, Figure]:
    """Every metric of one set against another of equal size; FD∞ where `extrapolated`, intervals where `errors`.

    The k-NN metrics keep the manifold and let the queries vary; the other intervals let samples and reference vary.
    """
    found = distances(made[0], real[0], errors, extrapolated) | manifold_figures(made[0], real[0], k)
    if made[1] is not None and real[1] is not None:
        found |= score_figures(made[1], real[1], errors)
    return found


def distances(x: Tensor, y: Tensor, errors: bool, extrapolated: bool) -> dict[str, Figure]:
    """Fréchet and kernel distances."""
    found = {}
    for name, (distance, jackknife, most) in DISTANCES.items():
        if name == "fd_infinity" and not extrapolated:
            continue
        left: LeftOut | None = None
        if errors:
            ours, theirs = (min(most, len(side) // 2) for side in (x, y))
            left = {
                "samples": jackknife(x, y, group_of(len(x), ours), ours),
                "reference": jackknife(y, x, group_of(len(y), theirs, seed=1), theirs),
            }
        found[name] = figure(name, distance(x, y), left)
    if extrapolated:
        found["fd_infinity"]["reliable"] = min(len(x), len(y)) >= RELIABLE * x.shape[1]
    return found


def manifold_figures(x: Tensor, y: Tensor, k: int) -> dict[str, Figure]:
    """Precision, recall, density, coverage, authenticity."""
    found = compare(y, x, k)
    density = found.density.double()
    return {
        "precision": share(found.precise, "samples"),
        "recall": share(found.recalled, "reference"),
        "density": figure("density", float(density.mean()), {"samples": means_left_out(density, seed=0)}),
        "coverage": share(found.covered, "reference"),
        "authenticity": share(found.authentic, "samples"),
    }


def score_figures(made_NC: Tensor, real_MC: Tensor, errors: bool) -> dict[str, Figure]:
    """The Inception-style score, and the total variation of judged class shares."""
    classes = made_NC.shape[1]
    judged, truth = made_NC.argmax(1), real_MC.argmax(1)

    def variation(ours: Tensor, theirs: Tensor) -> float:
        return total_variation(class_shares(judged[ours], classes), class_shares(truth[theirs], classes))

    every, real = torch.arange(len(judged)), torch.arange(len(truth))
    score_left = tv_left = None
    if errors:
        score_left = {"samples": [inception_score(made_NC[r]) for r in _rest(len(judged), 0)]}
        tv_left = {
            "samples": [variation(r, real) for r in _rest(len(judged), 0)],
            "reference": [variation(every, r) for r in _rest(len(truth), 1)],
        }
    return {
        "score": figure("score", inception_score(made_NC), score_left),
        "tv": figure("tv", variation(every, real), tv_left),
    }


def _rest(count: int, seed: int) -> list[Tensor]:
    """The rows that stay when each group is left out."""
    groups = min(GROUPS, count // 2)
    member = group_of(count, groups, seed)
    return [torch.nonzero(member != g)[:, 0] for g in range(groups)]


def means_left_out(values_N: Tensor, seed: int) -> list[float]:
    """The mean with each group left out."""
    groups = min(GROUPS, len(values_N) // 2)
    member, values = group_of(len(values_N), groups, seed), values_N.double()
    sums = torch.zeros(groups, dtype=torch.float64).index_add_(0, member, values)
    counts = torch.bincount(member, minlength=groups)
    left: list[float] = ((values.sum() - sums) / (len(values) - counts)).tolist()
    return left


def figure(name: str, value: float, left: LeftOut | None) -> Figure:
    """A value with its jackknife interval, within what the metric can be."""
    if left is None:
        return {"value": value, "low": None, "high": None}
    low, high = two_sided(value, left)
    least, most = BOUNDS.get(name, (None, None))
    low = low if least is None else max(low, least)
    return {"value": value, "low": low, "high": high if most is None else min(high, most), "left_out": dict(left)}


def share(hits_N: Tensor, side: str) -> Figure:
    """A share with Wilson's interval; `side` says whether samples or the reference are asked."""
    low, high = wilson(int(hits_N.sum()), len(hits_N))
    left = {side: means_left_out(hits_N, seed=0 if side == "samples" else 1)}
    return {"value": float(hits_N.double().mean()), "low": low, "high": high, "left_out": left}


def with_floor(made: dict[str, Figure], floor: dict[str, Figure]) -> dict[str, Figure]:
    """The figures, each beside what real held-out images get."""
    return {k: {**v, "floor": floor.get(k, {}).get("value")} for k, v in made.items()}


def bare(found: dict[str, Figure]) -> dict[str, Figure]:
    """Figures without what differences need."""
    return {k: {a: b for a, b in v.items() if a != "left_out"} for k, v in found.items()}


def swapped(confusion: list[list[int]]) -> list[tuple[int, int]]:
    """Pairs of classes that look exchanged: of each, more samples are judged the other than itself, beyond chance.

    Both one-sided sign tests at 0.01 over the number of pairs.
    """
    from scipy.stats import binom

    pairs = list(combinations(range(len(confusion)), 2))

    def beyond_chance(a: int, b: int) -> bool:
        other, own = confusion[a][b], confusion[a][a]
        return bool(binom.sf(other - 1, other + own, 0.5) < SWAP / len(pairs))

    return [(a, b) for a, b in pairs if beyond_chance(a, b) and beyond_chance(b, a)]
