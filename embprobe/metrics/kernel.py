"""Kernel distance: the squared maximum mean discrepancy with a cubic kernel."""

import torch
from torch import Tensor

TILE = 2048


def _kernel(x_ND: Tensor, y_MD: Tensor) -> Tensor:
    """(x·y / D + 1)³ for all pairs (N,M), f64."""
    root = x_ND.double() @ y_MD.double().mT / x_ND.shape[1] + 1
    return root.square() * root


def _across(x_ND: Tensor, y_MD: Tensor) -> Tensor:
    """For each x the kernel's sum over all y: (N,)."""
    others = torch.split(y_MD, TILE)
    return torch.cat([torch.stack([_kernel(x, y).sum(1) for y in others]).sum(0) for x in torch.split(x_ND, TILE)])


def _within(x_ND: Tensor) -> Tensor:
    """For each x the kernel's sum over all other x: (N,). Each pair is taken once."""
    tiles = torch.split(x_ND, TILE)
    sums = [x.new_zeros(len(x), dtype=torch.float64) for x in tiles]
    for i, x in enumerate(tiles):
        own = _kernel(x, x)
        sums[i] += own.sum(1) - own.diagonal()
        for j in range(i + 1, len(tiles)):
            part = _kernel(x, tiles[j])
            sums[i] += part.sum(1)
            sums[j] += part.sum(0)
    return torch.cat(sums)


def kernel_distance(x_ND: Tensor, y_MD: Tensor) -> float:
    """Unbiased squared MMD with the kernel (x·y / D + 1)³, over all pairs; Bińkowski et al. 2018 (KID on Inception)."""
    n, m = len(x_ND), len(y_MD)
    within = _within(x_ND).sum() / (n * (n - 1)) + _within(y_MD).sum() / (m * (m - 1))
    return float(within - 2 * _across(x_ND, y_MD).sum() / (n * m))


def kernel_jackknife(x_ND: Tensor, y_MD: Tensor, groups_N: Tensor, groups: int) -> list[float]:
    """Kernel distances with one group of x left out each; groups_N (N,) in [0, groups).

    The distance is symmetric: swap x and y to leave out groups of y.
    """
    m, groups_N = len(y_MD), groups_N.to(x_ND.device)
    within, across, within_y = _within(x_ND), _across(x_ND, y_MD), _within(y_MD).sum() / (m * (m - 1))
    distances = []
    for g in range(groups):
        out = groups_N == g
        n = len(x_ND) - int(out.sum())
        xx = within.sum() - 2 * within[out].sum() + _within(x_ND[out]).sum()
        xy = across.sum() - across[out].sum()
        distances.append(float(xx / (n * (n - 1)) + within_y - 2 * xy / (n * m)))
    return distances
