"""Figures of one set of images against another, from what a judge saw: values, intervals, floors."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from embprobe.evaluation.output import JudgeOutput
from embprobe.metrics.estimate import Estimate, Spread
from embprobe.metrics.frechet import Cloud, Frechet, FrechetInfinity
from embprobe.metrics.halves import REPEATS, halves_of, manifold_tables, spread_of, tabulated
from embprobe.metrics.intervals import GROUPS, group_of, interval, left_out, share_interval
from embprobe.metrics.kernel import Kernel
from embprobe.metrics.manifold import compare_clouds
from embprobe.metrics.scores import class_shares, inception_score, total_variation
from embprobe.metrics.table import METRIC

Estimates = dict[str, Estimate]


FEWER = 12  # groups of FD where FD∞, whose halves have eigenvalue problems of their own, is taken with it
RELIABLE = 4  # samples a feature dimension that FD∞ wants


def figures(
    samples: JudgeOutput,
    real: JudgeOutput,
    k: int,
    *,
    errors: bool = True,
    extrapolated: bool = False,
    common_scale: bool = False,
) -> Estimates:
    """Every metric of one set against another; FD∞ where `extrapolated`, intervals where `errors`.

    `common_scale` divides features by the reference's root mean square before KID, whose kernel is not free of scale;
    on Inception's it is left as the literature has it.
    """
    estimates = distances(samples.features, real.features, errors, extrapolated, common_scale)
    estimates |= manifold_figures(samples.features, real.features, k, errors)
    if samples.probabilities is not None and real.probabilities is not None:
        estimates |= score_figures(samples.probabilities, real.probabilities, errors)
    return estimates


def halved(samples: JudgeOutput, real: JudgeOutput, found: Estimates) -> dict[str, float]:
    """The figures that depend on numbers, at half of them, means over halves."""
    values = {}
    if "fd_infinity" in found:
        values["fd"] = 2 * found["fd"].value - found["fd_infinity"].value
    if samples.probabilities is not None and real.probabilities is not None:
        variation = _variation(samples.probabilities, real.probabilities)
        values["tv"] = float(tabulated(variation, len(samples.features), len(real.features), REPEATS).mean())
        sides = halves_of(len(samples.features), REPEATS, 0)
        scores = [inception_score(samples.probabilities[side]) for half in sides for side in (half, ~half)]
        values["score"] = sum(scores) / len(scores)
    return values


def distances(x: Tensor, y: Tensor, errors: bool, extrapolated: bool, common_scale: bool = False) -> Estimates:
    """Fréchet and kernel distances."""
    found: Estimates = {}
    if extrapolated:
        beyond = FrechetInfinity(x, y)
        ours, theirs = (side.left_out(FEWER) if errors else ([], []) for side in (beyond, beyond.of_other))
        found["fd"] = _jackknifed("fd", beyond.whole.value, ours[0], theirs[0])
        infinite = _jackknifed("fd_infinity", beyond.value, ours[1], theirs[1])
        found["fd_infinity"] = replace(infinite, reliable=min(len(x), len(y)) >= RELIABLE * x.shape[1])
    else:
        found["fd"] = frechet_estimate("fd", x, y, errors=errors)
    scale = (float(y.double().square().mean().sqrt()) if common_scale else 1.0) or 1.0
    return found | {"kid": _distance("kid", Kernel(x / scale, y / scale), len(x), len(y), errors)}


def frechet_estimate(key: str, x: Tensor, y: Tensor, *, errors: bool) -> Estimate:
    """The Fréchet distance of samples x from reference y."""
    return _distance(key, Frechet(Cloud(x), Cloud(y)), len(x), len(y), errors)


def _distance(key: str, between: Frechet | Kernel, count_x: int, count_y: int, errors: bool) -> Estimate:
    ours, theirs = (min(GROUPS, count // 2) if errors else 0 for count in (count_x, count_y))
    of_samples = between.left_out(group_of(count_x, ours), range(ours)) if errors else []
    of_reference = between.of_other.left_out(group_of(count_y, theirs, seed=1), range(theirs)) if errors else []
    return _jackknifed(key, between.value, of_samples, of_reference)


def _jackknifed(key: str, value: float, of_samples: list[float], of_reference: list[float]) -> Estimate:
    return estimate(key, value, left_out(of_samples, of_reference) if of_samples else None)


# ---- shares of images within neighbourhoods


def manifold_figures(x: Tensor, y: Tensor, k: int, errors: bool = True) -> Estimates:
    """Precision, recall, density, coverage, authenticity."""
    neighbourhoods = compare_clouds(y, x, k)
    tables = manifold_tables(y, x, k) if errors else {}
    density = neighbourhoods.density.double()
    variance = max(float(density.var()) / len(density), least(len(density)))
    of_density = _spread(tables.get("density"), variance, len(density) - 1.0)
    return {
        "precision": share("precision", neighbourhoods.precise, tables.get("precision"), by_sample=True),
        "recall": share("recall", neighbourhoods.recalled, tables.get("recall"), by_sample=False),
        "density": estimate("density", float(density.mean()), of_density if errors else None),
        "coverage": share("coverage", neighbourhoods.covered, tables.get("coverage"), by_sample=False),
        "authenticity": share("authenticity", neighbourhoods.authentic, tables.get("authenticity"), by_sample=True),
    }


def share(key: str, hits_N: Tensor, table_R22: Tensor | None, *, by_sample: bool) -> Estimate:
    """A share of samples (`by_sample`: each is judged by itself, given the reference) or of reference images."""
    count, hits = len(hits_N), int(hits_N.sum())
    value, near = hits / count, (hits + 0.5) / (count + 1)
    variance = near * (1 - near) / count
    if by_sample or table_R22 is None:
        spread = _spread(table_R22, variance, max(1.0, count - 1.0))
    else:
        spread = spread_of(table_R22)
        spread = replace(spread, samples=max(spread.samples, least(count)))
    low, high = share_interval(value, count, spread)
    return Estimate(value, low, high, spread=spread)


def least(count: int) -> float:
    """The least variance that anything of `count` images is credited with: what half an image more would change."""
    return 0.5 / count**2


def _spread(table_R22: Tensor | None, variance: float, freedom: float) -> Spread:
    return Spread(variance, freedom) if table_R22 is None else spread_of(table_R22, variance, freedom)


# ---- judged classes


def score_figures(samples_NC: Tensor, real_MC: Tensor, errors: bool) -> Estimates:
    """The Inception-style score, and the total variation of judged class shares."""
    variation, every, real = _variation(samples_NC, real_MC), torch.arange(len(samples_NC)), torch.arange(len(real_MC))
    score, tv = inception_score(samples_NC), variation(every, real)
    if not errors:
        return {"score": Estimate(score), "tv": Estimate(tv)}
    of_tv = spread_of(tabulated(variation, len(every), len(real), REPEATS))
    return {
        "score": estimate("score", score, left_out([inception_score(samples_NC[r]) for r in _rest(len(every))])),
        "tv": estimate("tv", tv, replace(of_tv, samples=max(of_tv.samples, least(len(every))))),
    }


def _variation(samples_NC: Tensor, real_MC: Tensor) -> Callable[[Tensor, Tensor], float]:
    """Total variation of the shares of some samples and of some reference images."""
    classes = samples_NC.shape[1]
    judged, truth = samples_NC.argmax(1), real_MC.argmax(1)
    return lambda ours, theirs: total_variation(
        class_shares(judged[ours], classes), class_shares(truth[theirs], classes)
    )


def _rest(count: int) -> list[Tensor]:
    """The rows that stay when each group is left out."""
    groups = min(GROUPS, count // 2)
    member = group_of(count, groups)
    return [torch.nonzero(member != g)[:, 0] for g in range(groups)]


def estimate(key: str, value: float, spread: Spread | None) -> Estimate:
    """A value with its interval, within what the metric can be."""
    if spread is None:
        return Estimate(value)
    low, high = interval(value, spread)
    metric = METRIC[key]
    low = low if metric.least is None else max(low, metric.least)
    return Estimate(value, low, high if metric.most is None else min(high, metric.most), spread=spread)
