"""How far k-NN figures and class shares vary, from complementary halves of the samples and of the reference."""

# Leaving out a few samples misjudges a k-NN figure: an image near one sample alone is lost with it, which counts every
# lonely sample twice and more. Halves have radii of their own and repeat nothing, so that what differs between two halves
# is the variance of the figure at half its size, without bias; at its whole size it is half of that, since a manifold of
# half the points looks alike at a larger scale (tests/studies/verdicts.py measures how well that holds).

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from embprobe.metrics.estimate import Spread

REPEATS = 32
TILE = 2048
METRICS = ("precision", "recall", "density", "coverage", "authenticity")

Tables = dict[str, Tensor]
"""By figure: (R,2,2) f64, in each repeat that of either half of the samples against either half of the reference."""


def halves_of(count: int, repeats: int, seed: int) -> Tensor:
    """For each repeat which half each of `count` points is in: (R,count) bool, as equal in size as can be."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.stack([torch.randperm(count, generator=generator) for _ in range(repeats)])
    return order < count // 2


def tabulated(statistic: Callable[[Tensor, Tensor], float], count_x: int, count_y: int, repeats: int) -> Tensor:
    """Any statistic of places among samples and among reference images, on halves of both: (R,2,2) f64."""
    x, y = halves_of(count_x, repeats, 0), halves_of(count_y, repeats, 1)
    rows = [
        [[statistic(torch.nonzero(a)[:, 0], torch.nonzero(b)[:, 0]) for b in (v, ~v)] for a in (u, ~u)]
        for u, v in zip(x, y, strict=True)
    ]
    return torch.tensor(rows, dtype=torch.float64)


def manifold_tables(real_ND: Tensor, samples_MD: Tensor, k: int, repeats: int = REPEATS) -> Tables:
    """`METRICS` on halves of both sets, each half with radii of its own.

    Distances are f32 about a common mean and neighbours beyond the 4k + 12 nearest are not looked for: enough for a
    variance, not for a figure. Empty where a half has no k neighbours.
    """
    if min(len(real_ND), len(samples_MD)) // 2 <= k:
        return {}
    centre = real_ND.double().mean(0)
    y, x = ((points - centre).float() for points in (real_ND, samples_MD))
    side_x, side_y = (halves_of(len(p), repeats, seed).to(p.device) for p, seed in ((x, 0), (y, 1)))
    radius_x, _ = _radii(x, side_x, k)
    radius_y, next_y = _radii(y, side_y, k)
    found = _Counts(side_x, side_y, radius_x, radius_y)
    for rows, low in _tiles(x, y):
        found.add(rows, low)
    tables = found.tables(k)
    tables["authenticity"] = _authenticity(x, y, side_x, side_y, next_y, k)
    return {name: tables[name].double().cpu() for name in METRICS}


def spread_of(table_R22: Tensor, samples: float | None = None, freedom: float | None = None) -> Spread:
    """The spread of a figure from its halves; `samples` and `freedom` where that part is known exactly.

    With halves a of the samples and b of the reference: E (f₁ᵦ − f₂ᵦ)²/2 is the samples' variance at half size. The
    contrast of the reference, averaged over a, holds a part of the interaction I that is taken off: E I²/4.
    """
    f = table_R22
    of_samples = (f[:, 0] - f[:, 1]).square().mean() / 2
    contrast = (f[:, :, 0] - f[:, :, 1]).mean(1)
    interaction = (f[:, 0, 0] - f[:, 0, 1] - f[:, 1, 0] + f[:, 1, 1]).square().mean()
    return Spread(
        float(of_samples / 2) if samples is None else samples,
        float(len(f)) if freedom is None else freedom,
        tuple(contrast.tolist()),
        0.25,
        float(interaction / 16),
    )


# ---- neighbours and pairs


def _tiles(x_MD: Tensor, y_ND: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Distances (m,N) f32 of some x to all y."""
    square = y_ND.square().sum(1)
    for start in range(0, len(x_MD), TILE):
        rows = slice(start, min(start + TILE, len(x_MD)))
        part = x_MD[rows]
        yield rows, (part.square().sum(1)[:, None] + square - 2 * part @ y_ND.mT).clamp_min_(0).sqrt_()


def _nearest(x_MD: Tensor, y_ND: Tensor, count: int, *, same: bool) -> tuple[Tensor, Tensor]:
    """Distances and places (M,count) of the nearest y of each x; `same`: without the point itself."""
    distances, places = [], []
    for rows, tile in _tiles(x_MD, y_ND):
        if same:
            own = torch.arange(rows.start, rows.stop, device=tile.device)
            tile[own - rows.start, own] = torch.inf
        near = tile.topk(min(count, tile.shape[1] - same), largest=False)
        distances.append(near.values)
        places.append(near.indices)
    return torch.cat(distances), torch.cat(places)


def _radii(x_ND: Tensor, side_RN: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """For each repeat the distances (R,N) to the k-th nearest and to the nearest other point of one's own half."""
    distance, place = _nearest(x_ND, x_ND, 4 * k + 12, same=True)
    radius: list[Tensor] = []
    nearest: list[Tensor] = []
    for side in side_RN:
        mine = (side[place] == side[:, None]).cumsum(1)
        for rank, out in ((k, radius), (1, nearest)):
            reached = mine >= rank
            at = torch.where(reached.any(1), reached.int().argmax(1), distance.shape[1] - 1)
            out.append(distance.gather(1, at[:, None])[:, 0])
    return torch.stack(radius), torch.stack(nearest)


def _authenticity(x: Tensor, y: Tensor, side_x: Tensor, side_y: Tensor, next_RN: Tensor, k: int) -> Tensor:
    """Share of each half's samples that are farther from their nearest real image than that from its own nearest."""
    distance, place = _nearest(x, y, 4 * k + 12, same=False)
    table = []
    for mine, theirs, gap in zip(side_x, side_y, next_RN, strict=True):
        for_b = []
        for b in (theirs, ~theirs):
            inside = b[place]
            at = torch.where(inside.any(1), inside.int().argmax(1), 0)[:, None]
            for_b.append((distance.gather(1, at) > gap[place.gather(1, at)])[:, 0].double())
        table.append(torch.stack([torch.stack([hit[a].mean() for hit in for_b]) for a in (mine, ~mine)]))
    return torch.stack(table)


class _Counts:
    """Which samples and real images lie within whose radius, in each repeat, from pairs that may."""

    def __init__(self, side_x: Tensor, side_y: Tensor, radius_x: Tensor, radius_y: Tensor) -> None:
        self.side_x, self.side_y, self.radius_x, self.radius_y = side_x, side_y, radius_x, radius_y
        self.far_x, self.far_y = radius_x.amax(0), radius_y.amax(0)
        repeats, m, n = len(side_x), side_x.shape[1], side_y.shape[1]
        self.within = side_x.new_zeros(repeats, 2, m, dtype=torch.float32)  # real balls of half b that hold sample i
        self.covered = side_x.new_zeros(repeats, 2, n)  # ball of real j holds some sample of half a
        self.recalled = side_x.new_zeros(repeats, 2, n)  # some sample of half a has real j in its ball

    def add(self, rows: slice, distance_mN: Tensor) -> None:
        """Takes the distances of some samples to all real images in."""
        i, j = (distance_mN <= torch.maximum(self.far_x[rows, None], self.far_y)).nonzero(as_tuple=True)
        d, i = distance_mN[i, j], i + rows.start
        for r in range(len(self.side_x)):
            in_real, in_samples = d < self.radius_y[r, j], d <= self.radius_x[r, i]
            a, b = (~self.side_x[r, i]).long(), (~self.side_y[r, j]).long()
            at = in_real.nonzero()[:, 0]
            self.within[r].view(-1).index_add_(0, b[at] * self.within.shape[2] + i[at], torch.ones_like(d[at]))
            self.covered[r, a[at], j[at]] = True
            at = in_samples.nonzero()[:, 0]
            self.recalled[r, a[at], j[at]] = True

    def tables(self, k: int) -> Tables:
        """The figures of halves (R,2,2): half of the samples, half of the reference."""
        sides_x, sides_y = (torch.stack([s, ~s], 1).double() for s in (self.side_x, self.side_y))
        size_x, size_y = sides_x.sum(2)[:, :, None], sides_y.sum(2)[:, None]
        within = self.within.double()
        return {
            "precision": sides_x @ (within > 0).double().mT / size_x,
            "recall": self.recalled.double() @ sides_y.mT / size_y,
            "density": sides_x @ within.mT / k / size_x,
            "coverage": self.covered.double() @ sides_y.mT / size_y,
        }
