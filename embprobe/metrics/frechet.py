"""Fréchet distance of Gaussians fitted to features, and its extrapolation to infinitely many samples."""

from collections.abc import Iterator

import torch
from torch import Tensor

from embprobe.errors import UserError

ROWS, STRIP = 2048, 256  # rows taken to f64 at a time; columns of a covariance made at a time


def moments(x_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and unbiased covariance (D,D) in f64."""
    mean = _mean(x_ND)
    return mean, _scatter(x_ND, mean).div_(len(x_ND) - 1)


def frechet(mean_1: Tensor, cov_1: Tensor, mean_2: Tensor, cov_2: Tensor) -> float:
    """Squared Fréchet distance of two Gaussians; means (D,), covariances (D,D), f64.

    Dowson & Landau 1982. With Σ₂ = RᵀR, tr √(Σ₁Σ₂) is the sum of the roots of the eigenvalues of R Σ₁ Rᵀ: one symmetric
    problem, no general matrix root, no imaginary part.
    """
    root = _factor(cov_2)
    cross = _root_sum(root @ cov_1 @ root.mT)
    return float((mean_1 - mean_2).square().sum() + cov_1.trace() + cov_2.trace() - 2 * cross)


def frechet_distance(x_ND: Tensor, y_MD: Tensor) -> float:
    """Fréchet distance between two sets of features (N,D), (M,D); biased upward by about 1/N + 1/M.

    With fewer samples than dimensions, tr √(Σ₁Σ₂) is the nuclear norm of R₁R₂ᵀ, where Σ = RᵀR: exact, and small.
    """
    if min(len(x_ND), len(y_MD)) >= x_ND.shape[1]:
        return frechet(*moments(x_ND), *moments(y_MD))
    (mean_x, x), (mean_y, y) = _spread(x_ND), _spread(y_MD)
    cross = torch.linalg.svdvals(x @ y.mT).sum()
    return float((mean_x - mean_y).square().sum() + x.square().sum() + y.square().sum() - 2 * cross)


def frechet_jackknife(x_ND: Tensor, y_MD: Tensor, groups_N: Tensor, groups: int) -> list[float]:
    """Fréchet distances of x to y with one group of x left out each; groups_N (N,) in [0, groups).

    The distance is symmetric: swap x and y to leave out groups of y. Costs one eigenvalue problem of the lesser of N, M
    and D for each group.
    """
    centre, (mean_y, root) = _mean(x_ND), _spread(y_MD)
    groups_N = groups_N.to(x_ND.device)
    few = len(x_ND) < len(root)
    squares = torch.cat([(rows.double() - centre).square().sum(1) for rows in torch.split(x_ND, ROWS)])
    crosses = (_crosses_of_few if few else _crosses_of_many)(x_ND, centre, root, groups_N, groups)
    trace_y, distances = root.square().sum(), []
    for g, cross in enumerate(crosses):
        out = groups_N == g
        n = len(x_ND) - int(out.sum())
        shift = -(x_ND[out].double() - centre).sum(0) / max(1, n)  # of the mean of those left
        trace_x = (squares.sum() - squares[out].sum() - n * shift.square().sum()) / max(1, n - 1)
        distances.append(float((centre + shift - mean_y).square().sum() + trace_x + trace_y - 2 * cross))
    return distances


def frechet_infinity(x_ND: Tensor, y_MD: Tensor, seed: int = 0) -> float:
    """The Fréchet distance extrapolated to infinitely many samples on both sides; after Chong & Forsyth 2020.

    A line in 1/N through the distance of the whole sets and the mean distance of their random halves, read at 0. Halves
    that complement each other use every sample alike, so the spread stays that of the distance itself, where a line
    through nested subsets about doubles its variance. Meant for N ≥ 4·D. Raises UserError for fewer than 4 samples.
    """
    halves = [frechet_distance(x_ND[i], y_MD[j]) for i, j in _halves(x_ND, y_MD, seed)]
    return 2 * frechet_distance(x_ND, y_MD) - sum(halves) / 2


def frechet_infinity_jackknife(x_ND: Tensor, y_MD: Tensor, groups_N: Tensor, groups: int, seed: int = 0) -> list[float]:
    """`frechet_infinity` with one group of x left out each; halves as there, so each group leaves its own half."""
    whole = frechet_jackknife(x_ND, y_MD, groups_N, groups)
    halves = [
        frechet_jackknife(x_ND[i], y_MD[j], groups_N[i.to(groups_N.device)], groups)
        for i, j in _halves(x_ND, y_MD, seed)
    ]
    return [2 * w - (a + b) / 2 for w, a, b in zip(whole, *halves, strict=True)]


# ---- sums of squares, and roots


def _mean(x_ND: Tensor) -> Tensor:
    total = x_ND.new_zeros(x_ND.shape[1], dtype=torch.float64)
    for rows in torch.split(x_ND, ROWS):
        total += rows.double().sum(0)
    return total / len(x_ND)


def _scatter(x_ND: Tensor, centre_D: Tensor) -> Tensor:
    """Σ (x − c)(x − c)ᵀ (D,D); only what lies on and below its diagonal is multiplied out."""
    width = x_ND.shape[1]
    total = x_ND.new_zeros(width, width, dtype=torch.float64)
    for rows in torch.split(x_ND, ROWS):
        part = rows - centre_D
        for start in range(0, width, STRIP):
            total[start:, start : start + STRIP] += part[:, start:].mT @ part[:, start : start + STRIP]
    total.tril_()
    total += total.tril(-1).mT
    return total


def _factor(cov_DD: Tensor) -> Tensor:
    """R (r,D) with RᵀR = Σ: Cholesky's, or where Σ is singular its eigenvectors that carry variance."""
    root, failed = torch.linalg.cholesky_ex(cov_DD)
    if failed:
        values, vectors = torch.linalg.eigh(cov_DD)
        kept = values > values[-1].clamp_min(0) * len(values) * torch.finfo(values.dtype).eps
        root = vectors[:, kept] * values[kept].sqrt()
    return root.mT  # type: ignore[no-any-return]


def _spread(x_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and R (r,D) with RᵀR the covariance: the centred samples themselves where they are fewer than D."""
    if len(x_ND) >= x_ND.shape[1]:
        mean, cov = moments(x_ND)
        return mean, _factor(cov)
    mean = _mean(x_ND)
    return mean, (x_ND.double() - mean) / (len(x_ND) - 1) ** 0.5


def _root_sum(gram: Tensor) -> Tensor:
    """Σ √λ over the eigenvalues of a positive matrix; those that rounding made negative count as 0."""
    values: Tensor = torch.linalg.eigvalsh(gram)
    return values.clamp_min(0).sqrt().sum()


# ---- tr √(Σ₁Σ₂) with a group left out of Σ₁, Σ₂ = RᵀR


def _crosses_of_few(x_ND: Tensor, centre_D: Tensor, root_RD: Tensor, groups_N: Tensor, groups: int) -> Iterator[Tensor]:
    """From the products (N,N) of the samples seen through R."""
    seen = (x_ND.double() - centre_D) @ root_RD.mT
    gram = seen @ seen.mT
    for g in range(groups):
        kept = torch.nonzero(groups_N != g)[:, 0]
        part = gram[kept][:, kept]
        rows = part.mean(0)
        yield _root_sum((part - rows - rows[:, None] + rows.mean()) / max(1, len(kept) - 1))


def _crosses_of_many(
    x_ND: Tensor, centre_D: Tensor, root_RD: Tensor, groups_N: Tensor, groups: int
) -> Iterator[Tensor]:
    """From the scatter (R,R) of the samples seen through R."""
    whole = root_RD @ _scatter(x_ND, centre_D) @ root_RD.mT
    for g in range(groups):
        out = (x_ND[groups_N == g].double() - centre_D) @ root_RD.mT
        n = len(x_ND) - len(out)
        total = out.sum(0)
        yield _root_sum((whole - out.mT @ out - total[:, None] * total / max(1, n)) / max(1, n - 1))


def _halves(x_ND: Tensor, y_MD: Tensor, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Places of a random half of both sets, and of the other half."""
    if min(len(x_ND), len(y_MD)) < 4:
        raise UserError(f"{min(len(x_ND), len(y_MD))} samples are too few to extrapolate from; give at least 4")
    pairs = []
    for v in (x_ND, y_MD):
        order = torch.randperm(len(v), generator=torch.Generator().manual_seed(seed)).to(v.device)
        pairs.append(order.tensor_split(2))
    return list(zip(*pairs, strict=True))
