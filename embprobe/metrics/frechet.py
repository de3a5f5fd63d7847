"""Fréchet distance of Gaussians fitted to features, and its extrapolation to infinitely many samples."""

import torch
from torch import Tensor


def moments(x_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and unbiased covariance (D,D) in f64."""
    x = x_ND.double()
    return x.mean(0), x.T.cov()


def square_root(cov: Tensor) -> Tensor:
    """The symmetric root of a covariance (D,D); eigenvalues that rounding made negative count as 0."""
    values, vectors = torch.linalg.eigh(cov)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root


def frechet(mean_1: Tensor, cov_1: Tensor, mean_2: Tensor, cov_2: Tensor, root_2: Tensor | None = None) -> float:
    """Squared Fréchet distance of two Gaussians; means (D,), covariances (D,D), f64.

    Dowson & Landau 1982. tr √(Σ₁Σ₂) is the sum of the roots of the eigenvalues of Σ₂^½ Σ₁ Σ₂^½, which is symmetric: no
    general matrix root, no imaginary part, and singular covariances are no special case. root_2: Σ₂^½ where at hand.
    """
    root = square_root(cov_2) if root_2 is None else root_2
    cross = torch.linalg.eigvalsh(root @ cov_1 @ root).clamp_min(0).sqrt().sum()
    distance = (mean_1 - mean_2).square().sum() + cov_1.trace() + cov_2.trace() - 2 * cross
    return float(distance)


def frechet_jackknife(x_ND: Tensor, y_MD: Tensor, groups_N: Tensor, groups: int) -> list[float]:
    """Fréchet distances of x to y with one group of x left out each; groups_N (N,) in [0, groups)."""
    if max(len(x_ND), len(y_MD)) < x_ND.shape[1]:
        return [frechet_distance(x_ND[groups_N != g], y_MD) for g in range(groups)]
    mean, cov = moments(y_MD)
    root, x = square_root(cov), x_ND.double()
    centre = x.mean(0)
    x = x - centre
    total, square = x.sum(0), x.T @ x
    found = []
    for g in range(groups):
        out = x[groups_N == g]
        n = len(x) - len(out)
        left = (total - out.sum(0)) / n
        left_cov = (square - out.T @ out - n * left[:, None] * left) / (n - 1)
        found.append(frechet(left + centre, left_cov, mean, cov, root))
    return found


def frechet_distance(x_ND: Tensor, y_MD: Tensor) -> float:
    """Fréchet distance between two sets of features (N,D), (M,D); biased upward by about 1/N.

    With fewer samples than dimensions, tr √(Σ₁Σ₂) is the nuclear norm of X Yᵀ / √((N−1)(M−1)), X and Y centred: exact, and small.
    """
    if max(len(x_ND), len(y_MD)) >= x_ND.shape[1]:
        return frechet(*moments(x_ND), *moments(y_MD))
    x, y = x_ND.double(), y_MD.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = (x - mean_x) / (len(x) - 1) ** 0.5, (y - mean_y) / (len(y) - 1) ** 0.5
    cross = torch.linalg.svdvals(x @ y.T).sum()
    return float((mean_x - mean_y).square().sum() + x.square().sum() + y.square().sum() - 2 * cross)


def frechet_infinity(x_ND: Tensor, y_ND: Tensor, seed: int = 0, points: int = 8) -> float:
    """The Fréchet distance extrapolated to infinitely many samples on both sides; Chong & Forsyth 2020.

    A line through the distances of nested random subsets of n/2 to n against 1/n, read at 0. Meant for n ≥ 4·D.
    """
    generator = torch.Generator().manual_seed(seed)
    count = min(len(x_ND), len(y_ND))
    x, y = (v[torch.randperm(len(v), generator=generator)[:count]] for v in (x_ND.cpu(), y_ND.cpu()))
    sizes = torch.linspace(count // 2, count, points).round().int().tolist()
    distances = torch.tensor([frechet_distance(x[:n], y[:n]) for n in sizes], dtype=torch.float64)
    inverse = torch.tensor([1 / n for n in sizes], dtype=torch.float64)
    design = torch.stack([torch.ones_like(inverse), inverse], 1)
    return float(torch.linalg.lstsq(design, distances[:, None]).solution[0, 0])
