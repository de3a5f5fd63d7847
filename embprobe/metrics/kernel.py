"""Kernel distance: the squared maximum mean discrepancy with a cubic kernel."""

from collections.abc import Iterable

import torch
from torch import Tensor

TILE = 512


def _kernel(x_ND: Tensor, y_MD: Tensor) -> Tensor:
    """(x·y / D + 1)³ for all pairs (N,M), f64."""
    root = x_ND.double() @ y_MD.double().mT / x_ND.shape[1] + 1
    return root.square() * root


def _across(x_ND: Tensor, y_MD: Tensor) -> tuple[Tensor, Tensor]:
    """For each x the kernel's sum over all y (N,), and for each y that over all x (M,)."""
    over_y, over_x = x_ND.new_zeros(len(x_ND), dtype=torch.float64), x_ND.new_zeros(len(y_MD), dtype=torch.float64)
    for i in range(0, len(x_ND), TILE):
        for j in range(0, len(y_MD), TILE):
            part = _kernel(x_ND[i : i + TILE], y_MD[j : j + TILE])
            over_y[i : i + TILE] += part.sum(1)
            over_x[j : j + TILE] += part.sum(0)
    return over_y, over_x


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


class Kernel:
    """Unbiased squared MMD of two sets with the kernel (x·y / D + 1)³ over all pairs; Bińkowski et al. 2018 (KID on Inception).

    Whole, and with some of the first set left out; all pairs are gone through once. It is symmetric: `of_other` leaves
    out of the second.
    """

    def __init__(self, x_ND: Tensor, y_MD: Tensor) -> None:
        self.sets = (x_ND, y_MD)
        self.within = (_within(x_ND), _within(y_MD))
        self.across = _across(x_ND, y_MD)

    @property
    def of_other(self) -> "Kernel":
        other = object.__new__(Kernel)
        other.sets, other.within, other.across = (v[::-1] for v in (self.sets, self.within, self.across))
        return other

    @property
    def value(self) -> float:
        """Of all."""
        n, m = map(len, self.sets)
        within = self.within[0].sum() / (n * (n - 1)) + self.within[1].sum() / (m * (m - 1))
        return float(within - 2 * self.across[0].sum() / (n * m))

    def left_out(self, groups_N: Tensor, groups: Iterable[int]) -> list[float]:
        """Distances with one of these groups of x left out each; groups_N (N,): which group each is in."""
        (x, y), (within, within_y), (across, _) = self.sets, self.within, self.across
        m, groups_N, distances = len(y), groups_N.to(x.device), []
        for group in groups:
            out = groups_N == group
            n = len(x) - int(out.sum())
            xx = within.sum() - 2 * within[out].sum() + _within(x[out]).sum()
            xy = across.sum() - across[out].sum()
            distances.append(float(xx / (n * (n - 1)) + within_y.sum() / (m * (m - 1)) - 2 * xy / (n * m)))
        return distances


def kernel_distance(x_ND: Tensor, y_MD: Tensor) -> float:
    """The squared MMD of all."""
    return Kernel(x_ND, y_MD).value
