"""Fréchet distance of Gaussians fitted to features, and its extrapolation to infinitely many samples."""

from collections.abc import Iterable
from functools import cached_property

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


class Cloud:
    """Features (N,D), and what distances need of them, each taken once."""

    def __init__(self, points_ND: Tensor) -> None:
        self.points_ND = points_ND

    def __len__(self) -> int:
        return len(self.points_ND)

    @cached_property
    def mean(self) -> Tensor:
        return _mean(self.points_ND)

    @cached_property
    def scatter(self) -> Tensor:
        """Σ (x − mean)(x − mean)ᵀ (D,D)."""
        return _scatter(self.points_ND, self.mean)

    @cached_property
    def root(self) -> Tensor:
        """R (r,D) with RᵀR the covariance: the centred features themselves where they are fewer than D."""
        if len(self) >= self.points_ND.shape[1]:
            return _factor(self.scatter / (len(self) - 1))
        root: Tensor = (self.points_ND.double() - self.mean) / (len(self) - 1) ** 0.5
        return root

    @cached_property
    def squares(self) -> Tensor:
        """Squared distances (N,) to the mean."""
        rows = torch.split(self.points_ND, ROWS)
        return torch.cat([(part.double() - self.mean).square().sum(1) for part in rows])

    @property
    def variance(self) -> Tensor:
        """The covariance's trace."""
        total: Tensor = self.squares.sum() / (len(self) - 1)
        return total


class Frechet:
    """The Fréchet distance of two clouds, whole and with some of the first left out; biased upward by about 1/N + 1/M.

    Where both have more features than dimensions, from their covariances; else tr √(Σ₁Σ₂) is the nuclear norm of R₁R₂ᵀ,
    where Σ = RᵀR: exact, and small. The distance is symmetric: `of_other` leaves out of the second.
    """

    def __init__(self, x: Cloud, y: Cloud) -> None:
        self.x, self.y = x, y

    @property
    def of_other(self) -> "Frechet":
        other = Frechet(self.y, self.x)
        other.__dict__["value"] = self.value
        return other

    @cached_property
    def value(self) -> float:
        """Of all."""
        x, y = self.x, self.y
        if min(len(x), len(y)) >= x.points_ND.shape[1]:
            cross = _root_sum(self.seen / (len(x) - 1))
        else:
            cross = torch.linalg.svdvals(x.root @ y.root.mT).sum()
        return float((x.mean - y.mean).square().sum() + x.variance + y.variance - 2 * cross)

    @cached_property
    def seen(self) -> Tensor:
        """The scatter (R,R) of x seen through the root of y."""
        scatter: Tensor = self.y.root @ self.x.scatter @ self.y.root.mT
        return scatter

    def left_out(self, groups_N: Tensor, groups: Iterable[int]) -> list[float]:
        """Distances with one of these groups of x left out each; groups_N (N,): which group each is in.

        Each costs one eigenvalue problem of the lesser of N, M and D.
        """
        x, y, groups_N = self.x, self.y, groups_N.to(self.x.points_ND.device)
        few = len(x) < len(y.root)
        seen = (x.points_ND.double() - x.mean) @ y.root.mT if few else self.seen
        gram = seen @ seen.mT if few else seen
        distances = []
        for group in groups:
            out = groups_N == group
            n = len(x) - int(out.sum())
            centred = x.points_ND[out].double() - x.mean
            shift = -centred.sum(0) / max(1, n)  # of the mean of those left
            cross = _of_few(gram, ~out) if few else _of_many(gram, centred @ y.root.mT, n)
            trace = (x.squares.sum() - x.squares[out].sum() - n * shift.square().sum()) / max(1, n - 1)
            distances.append(float((x.mean + shift - y.mean).square().sum() + trace + y.variance - 2 * cross))
        return distances


def frechet_distance(x_ND: Tensor, y_MD: Tensor) -> float:
    """Fréchet distance between two sets of features (N,D), (M,D)."""
    return Frechet(Cloud(x_ND), Cloud(y_MD)).value


class FrechetInfinity:
    """The Fréchet distance extrapolated to infinitely many samples on both sides; after Chong & Forsyth 2020.

    A line in 1/N through the distance of the `whole` sets and the mean distance of their random halves, read at 0. Halves
    that complement each other use every sample alike, so the spread stays that of the distance itself, where a line
    through nested subsets about doubles its variance. Meant for N ≥ 4·D. Raises UserError for fewer than 4 samples.
    """

    def __init__(self, x_ND: Tensor, y_MD: Tensor, seed: int = 0) -> None:
        if min(len(x_ND), len(y_MD)) < 4:
            raise UserError(f"{min(len(x_ND), len(y_MD))} samples are too few to extrapolate from; give at least 4")
        self.places = tuple(_halves(len(v), seed) for v in (x_ND, y_MD))
        self.whole = Frechet(Cloud(x_ND), Cloud(y_MD))
        self.halves = [
            Frechet(Cloud(x_ND[i.to(x_ND.device)]), Cloud(y_MD[j.to(y_MD.device)]))
            for i, j in zip(*self.places, strict=True)
        ]

    @property
    def of_other(self) -> "FrechetInfinity":
        other = object.__new__(FrechetInfinity)
        other.places = self.places[::-1]
        other.whole, other.halves = self.whole.of_other, [half.of_other for half in self.halves]
        return other

    @property
    def value(self) -> float:
        return 2 * self.whole.value - (self.halves[0].value + self.halves[1].value) / 2

    def groups(self, most: int) -> tuple[Tensor, int]:
        """A random group for each x (N,), and their even number: none is in both halves, so that each leaves one half alone."""
        count = len(self.whole.x)
        each, groups_N = max(1, min(most, count // 2) // 2), torch.empty(count, dtype=torch.int64)
        for half, places in enumerate(self.places[0]):
            groups_N[places] = 2 * (torch.arange(len(places)) * each // len(places)) + half
        return groups_N, 2 * each

    def left_out(self, most: int) -> tuple[list[float], list[float]]:
        """Distances of the whole sets, and extrapolated ones, with one group of x left out each, at most so many."""
        groups_N, groups = self.groups(most)
        wholes, beyond = self.whole.left_out(groups_N, range(groups)), [0.0] * groups
        for half, places in enumerate(self.places[0]):
            mine, other = range(half, groups, 2), self.halves[1 - half].value
            alone = groups == 2  # the half is one group
            left = [other] if alone else self.halves[half].left_out(groups_N[places], mine)
            for group, value in zip(mine, left, strict=True):
                beyond[group] = 2 * wholes[group] - (value + other) / 2
        return wholes, beyond


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


def _root_sum(gram: Tensor) -> Tensor:
    """Σ √λ over the eigenvalues of a positive matrix; those that rounding made negative count as 0."""
    values: Tensor = torch.linalg.eigvalsh(gram)
    return values.clamp_min(0).sqrt().sum()


# ---- tr √(Σ₁Σ₂) with some left out of Σ₁, Σ₂ = RᵀR


def _of_few(gram_NN: Tensor, kept_N: Tensor) -> Tensor:
    """From the products (N,N) of the samples seen through R."""
    part = gram_NN[kept_N][:, kept_N]
    rows = part.mean(0)
    return _root_sum((part - rows - rows[:, None] + rows.mean()) / max(1, len(part) - 1))


def _of_many(seen_RR: Tensor, out_GR: Tensor, left: int) -> Tensor:
    """From the scatter (R,R) of the samples seen through R, and those left out as they are seen."""
    total = out_GR.sum(0)
    return _root_sum((seen_RR - out_GR.mT @ out_GR - total[:, None] * total / max(1, left)) / max(1, left - 1))


def _halves(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Places of a random half, and of the other half."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    first, second = order.tensor_split(2)
    return first, second
