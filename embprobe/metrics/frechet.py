"""Fréchet distance of Gaussians fitted to features, and its extrapolation to infinitely many samples."""

import torch
from torch import Tensor


def moments(x_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and unbiased covariance (D,D) in f64."""
    x = x_ND.double()
    return x.mean(0), x.T.cov()


def frechet(mean_1: Tensor, cov_1: Tensor, mean_2: Tensor, cov_2: Tensor) -> float:
    """Squared Fréchet distance of two Gaussians; means (D,), covariances (D,D), f64.

    Dowson & Landau 1982. tr √(Σ₁Σ₂) is the sum of the roots of the eigenvalues of Σ₁^½ Σ₂ Σ₁^½, which is symmetric: no
    general matrix root, no imaginary part, and singular covariances are no special case.
    """
    values, vectors = torch.linalg.eigh(cov_1)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_2 @ root).clamp_min(0).sqrt().sum()
    distance = (mean_1 - mean_2).square().sum() + cov_1.trace() + cov_2.trace() - 2 * cross
    return float(distance)


def frechet_distance(x_ND: Tensor, y_MD: Tensor) -> float:
    """Fréchet distance between two sets of features (N,D), (M,D); biased upward by about 1/N."""
    return frechet(*moments(x_ND), *moments(y_MD))


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
