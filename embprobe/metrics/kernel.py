"""Kernel distance: the squared maximum mean discrepancy with a cubic kernel."""

import torch
from torch import Tensor

TILE = 2048


def _sums(x_ND: Tensor, y_MD: Tensor) -> tuple[float, float]:
    """Sum of (x·y / D + 1)³ over all pairs, and over the diagonal."""
    width = x_ND.shape[1]
    total = diagonal = 0.0
    for start in range(0, len(x_ND), TILE):
        rows = x_ND[start : start + TILE].double()
        for column in range(0, len(y_MD), TILE):
            total += float(((rows @ y_MD[column : column + TILE].double().T) / width + 1).pow(3).sum())
    if x_ND is y_MD:
        diagonal = float((x_ND.double().square().sum(1) / width + 1).pow(3).sum())
    return total, diagonal


def kernel_distance(x_ND: Tensor, y_MD: Tensor) -> float:
    """Unbiased squared MMD with the kernel (x·y / D + 1)³, over all pairs; Bińkowski et al. 2018 (KID on Inception)."""
    n, m = len(x_ND), len(y_MD)
    xx, x_diagonal = _sums(x_ND, x_ND)
    yy, y_diagonal = _sums(y_MD, y_MD)
    xy, _ = _sums(x_ND, y_MD)
    return (xx - x_diagonal) / (n * (n - 1)) + (yy - y_diagonal) / (m * (m - 1)) - 2 * xy / (n * m)


def kernel_jackknife(x_ND: Tensor, y_MD: Tensor, groups_N: Tensor, groups: int) -> list[float]:
    """Kernel distances with one group of x left out each; groups_N (N,) in [0, groups)."""
    width, m = x_ND.shape[1], len(y_MD)
    yy, y_diagonal = _sums(y_MD, y_MD)
    within = torch.zeros(groups, groups, dtype=torch.float64)
    across = torch.zeros(groups, dtype=torch.float64)
    counts = torch.bincount(groups_N, minlength=groups).double()
    diagonal = (x_ND.double().square().sum(1) / width + 1).pow(3)
    diagonals = torch.zeros(groups, dtype=torch.float64).index_add_(0, groups_N, diagonal)
    for g in range(groups):
        rows = x_ND[groups_N == g].double()
        columns = (rows @ x_ND.double().T / width + 1).pow(3).sum(0)
        within[g] = torch.zeros(groups, dtype=torch.float64).index_add_(0, groups_N, columns)
        across[g] = _sums(rows, y_MD)[0]
    found = []
    for g in range(groups):
        n = float(counts.sum() - counts[g])
        xx = within.sum() - 2 * within[g].sum() + within[g, g] - (diagonals.sum() - diagonals[g])
        xy = across.sum() - across[g]
        found.append(float(xx / (n * (n - 1)) + (yy - y_diagonal) / (m * (m - 1)) - 2 * xy / (n * m)))
    return found
