"""Neighbourhoods: precision, recall, density, coverage and authenticity of samples, exact and in bounded memory."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from embprobe.errors import UserError

TILE = 1024  # points on a side of a tile; four times as many on an accelerator
PIECE = 2**18  # numbers measured at a time
SPARSE = 8  # pairs for each point of a tile, times k, that are measured rather than looked at again in f64


@dataclass(frozen=True)
class Comparison:
    """Samples (M,) against real images (N,), every image for itself; the means are the figures."""

    precise: Tensor  # (M,) bool: within the radius of some real image, or on it; Kynkäänniemi et al. 2019
    recalled: Tensor  # (N,) bool: within the radius of some sample, or on it
    density: Tensor  # (M,) f64: real images that have the sample strictly within their radius, / k; Naeem et al. 2020
    covered: Tensor  # (N,) bool: some sample lies strictly within the radius
    authentic: Tensor  # (M,) bool: farther from its nearest real image than that from the next one; Alaa et al. 2022


def compare_clouds(real_ND: Tensor, samples_MD: Tensor, k: int = 3) -> Comparison:
    """Compare samples with real images; a point's radius is the distance to its k-th nearest other point.

    Every decision is that of f64 differences, ties included. A sample with several nearest real images is authentic if it
    is so for each. Raises UserError if N ≤ k or M ≤ k.
    """
    near, far = neighbours(real_ND, k), neighbours(samples_MD, k)[:, -1]
    pairs = _Pairs(samples_MD, real_ND, k)
    search = _Search(pairs, near[:, -1], far, near[:, 0])
    for rows in _blocks(samples_MD):
        for columns in _blocks(real_ND):
            search.add(rows, columns)
    return Comparison(search.precise, search.recalled, search.within / k, search.covered, search.nearest > search.gap)


def precision_recall(real_ND: Tensor, samples_MD: Tensor, k: int = 3) -> tuple[Tensor, Tensor]:
    """For each sample whether it lies in the real manifold (M,), and for each real image whether in the samples' (N,)."""
    comparison = compare_clouds(real_ND, samples_MD, k)
    return comparison.precise, comparison.recalled


def neighbours(x_ND: Tensor, k: int) -> Tensor:
    """Squared distances (N,k) to the k nearest other points, ascending, f64 and exact. Raises UserError if N ≤ k."""
    if len(x_ND) <= k:
        raise UserError(f"{len(x_ND)} samples are too few for neighbourhoods of k = {k}; give more than {k}")
    search, parts = _Nearest(x_ND, k), _blocks(x_ND)
    for part in parts:  # first each block by itself, so that few of the other pairs matter
        search.within(part)
    for rows, columns in combinations(parts, 2):
        search.between(rows, columns)
    return search.best


def _blocks(x_ND: Tensor) -> list[Tensor]:
    """Places of points, each block a side of a tile; at random, so that what is near in one block bounds the others."""
    order = torch.randperm(len(x_ND), generator=torch.Generator().manual_seed(0)).to(x_ND.device)
    side = TILE if x_ND.device.type == "cpu" else 4 * TILE
    return list(order.tensor_split(-(-len(x_ND) // side)))


# ---- bounds from matrix products, distances from differences


class _Pairs:
    """Squared distances of all x (N,D) to all y (M,D): lower bounds tile by tile, and exact ones of chosen pairs.

    A tile is |x|² + |y|² − 2x·y about a common centre, in f32 where that is fast, less all that its rounding can amount
    to: (D + 20)·ε·(|x|² + |y|²) is twice what any order of summation can reach (Higham 2002, §3.1).
    """

    def __init__(self, x_ND: Tensor, y_MD: Tensor, k: int) -> None:
        self.x, self.y, self.sparse = x_ND, y_MD, SPARSE * k
        self.scratch: dict[tuple[str, torch.dtype], Tensor] = {}
        centre = y_MD.mean(0)
        self.centre = centre if centre.dtype == torch.float64 else centre.float()
        self.square_x = self._squares(x_ND)
        self.square_y = self.square_x if y_MD is x_ND else self._squares(y_MD)
        largest = float(max(self.square_x.max(), self.square_y.max()))
        if not largest < torch.inf:
            raise UserError(
                "some features are not finite numbers; the network that made them cannot judge these images"
            )
        exact = x_ND.dtype == torch.float64 or y_MD.dtype == torch.float64 or x_ND.device.type != "cpu"
        narrow = not exact and largest < 1e36 and torch.get_float32_matmul_precision() == "highest"
        self.kinds = (torch.float32, torch.float64) if narrow else (torch.float64,)

    def _squares(self, x_ND: Tensor) -> Tensor:
        squares = x_ND.new_empty(len(x_ND), dtype=torch.float64)
        for start in range(0, len(x_ND), TILE):
            part = slice(start, start + TILE)
            squares[part] = (x_ND[part].double() - self.centre.double()).square_().sum(1)
        return squares

    def slack(self, square: Tensor, kind: torch.dtype) -> Tensor:
        """What one side adds to the bound on a tile's rounding, from its |x|²."""
        width, info = self.x.shape[1], torch.finfo(kind)
        unit = (width + 20) * info.eps
        return square * (unit / (1 - unit)) + 2 * width * info.tiny

    def low(self, rows: Tensor, columns: Tensor, kind: torch.dtype) -> Tensor:
        """Lower bounds (R,C) of the squared distances."""
        x, y = (self._centred(*of, kind) for of in (("x", self.x, rows), ("y", self.y, columns)))
        low_x, low_y = (s - self.slack(s, kind) for s in (self.square_x[rows], self.square_y[columns]))
        low = self._scratch("low", len(rows) * len(columns), kind).view(len(rows), len(columns))
        torch.addmm(low_y.to(kind), x, y.mT, alpha=-2, out=low)
        return low.add_(low_x.to(kind)[:, None])

    def _centred(self, name: str, points_ND: Tensor, places_P: Tensor, kind: torch.dtype) -> Tensor:
        """Chosen points (P,D) about the centre."""
        width = points_ND.shape[1]
        points = self._scratch(name, len(places_P) * width, kind).view(len(places_P), width)
        if points_ND.dtype == kind:
            torch.index_select(points_ND, 0, places_P, out=points)
        else:
            points.copy_(points_ND[places_P])
        return points.sub_(self.centre.to(kind))

    def _scratch(self, name: str, count: int, kind: torch.dtype) -> Tensor:
        """Memory that every tile takes again: freed and asked for anew, it would be held many times over."""
        if len(self.scratch.get((name, kind), ())) < count:
            self.scratch[name, kind] = self.square_x.new_empty(count, dtype=kind)
        return self.scratch[name, kind][:count]

    def high(self, low_P: Tensor, i_P: Tensor, j_P: Tensor, kind: torch.dtype) -> Tensor:
        """Upper bounds from the lower ones, f64, of the pairs (i, j)."""
        return low_P.double() + 2 * (self.slack(self.square_x[i_P], kind) + self.slack(self.square_y[j_P], kind))

    def measured(self, i_P: Tensor, j_P: Tensor) -> Tensor:
        """Squared distances (P,) of the pairs (i, j): f64 differences, summed by halves, so equal for equal pairs."""
        squares = self.square_x.new_empty(len(i_P))
        piece = max(1, (PIECE if self.x.device.type == "cpu" else 64 * PIECE) // self.x.shape[1])
        for start in range(0, len(i_P), piece):
            part = slice(start, start + piece)
            terms = self.x[i_P[part]].double().sub_(self.y[j_P[part]]).square_()
            while (width := terms.shape[1]) > 1:
                half = width // 2
                terms[:, :half] += terms[:, width - half :]
                terms = terms[:, : width - half]
            squares[part] = terms[:, 0]
        return squares

    def chosen(self, rows: Tensor, columns: Tensor, wanted: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """The pairs (i, j) that `wanted` marks in a tile of lower bounds; sharper bounds where it marks many."""
        for kind in self.kinds:
            mask = wanted(self.low(rows, columns, kind))
            if int(mask.count_nonzero()) <= self.sparse * sum(mask.shape):
                break
        i, j = mask.nonzero(as_tuple=True)
        return rows[i], columns[j]


def _reach(distances: Tensor, kind: torch.dtype) -> Tensor:
    """Distances rounded up; −∞ for 0, than which nothing is nearer."""
    reach = torch.nextafter(distances.to(kind), distances.new_tensor(torch.inf, dtype=kind))
    return reach.masked_fill(distances == 0, -torch.inf)


class _Nearest:
    """The squared distances (N,k) from every point to the nearest of the others looked at so far, ascending."""

    def __init__(self, x_ND: Tensor, k: int) -> None:
        self.pairs, self.k = _Pairs(x_ND, x_ND, k), k
        self.best = x_ND.new_full((len(x_ND), k), torch.inf, dtype=torch.float64)

    def within(self, part: Tensor) -> None:
        """Looks at the pairs of one block: each point's likely nearest, then what may be nearer than those."""

        def wanted(low: Tensor) -> Tensor:
            low.fill_diagonal_(torch.inf)
            likely = low.topk(min(self.k, len(low) - 1), largest=False).indices
            i = torch.arange(len(low), device=low.device).repeat_interleave(likely.shape[1])
            distances = self.pairs.measured(part[i], part[likely.flatten()])
            self.best[part, : likely.shape[1]] = distances.view_as(likely).sort(1).values
            low.scatter_(1, likely, torch.inf)
            return low < _reach(self.best[part, -1], low.dtype)[:, None]

        i, j = self.pairs.chosen(part, part, wanted)
        self._keep(i, self.pairs.measured(i, j))

    def between(self, rows: Tensor, columns: Tensor) -> None:
        """Looks at the pairs of two blocks, for both."""

        def wanted(low: Tensor) -> Tensor:
            first, second = (_reach(self.best[b, -1], low.dtype) for b in (rows, columns))
            return (low < first[:, None]) | (low < second)

        i, j = self.pairs.chosen(rows, columns, wanted)
        distances = self.pairs.measured(i, j)
        self._keep(i, distances)
        self._keep(j, distances)

    def _keep(self, row_P: Tensor, distance_P: Tensor) -> None:
        nearer = distance_P < self.best[row_P, -1]
        row, order = row_P[nearer].sort()
        if not len(row):
            return
        rows, counts = torch.unique_consecutive(row, return_counts=True)
        line = torch.arange(len(rows), device=row.device).repeat_interleave(counts)
        place = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[line]
        table = self.best.new_full((len(rows), self.k + int(counts.max())), torch.inf)
        table[:, : self.k] = self.best[rows]
        table[line, self.k + place] = distance_P[nearer][order]
        self.best[rows] = table.topk(self.k, largest=False).values


class _Search:
    """What the samples (rows) and the real images (columns) are known to be to each other so far."""

    def __init__(self, pairs: _Pairs, radius_N: Tensor, radius_M: Tensor, next_N: Tensor) -> None:
        self.pairs, self.radius_real, self.radius_samples, self.next = pairs, radius_N, radius_M, next_N
        self.precise = torch.zeros_like(radius_M, dtype=torch.bool)
        self.recalled = torch.zeros_like(radius_N, dtype=torch.bool)
        self.within = torch.zeros_like(radius_M)
        self.covered = torch.zeros_like(radius_N, dtype=torch.bool)
        self.nearest = torch.full_like(radius_M, torch.inf)  # squared distance to the nearest real image,
        self.gap = torch.full_like(radius_M, -torch.inf)  # and from that to its own nearest

    def add(self, rows: Tensor, columns: Tensor) -> None:
        """Takes a tile in; in f64 where f32 leaves much open."""
        pairs = self.pairs
        most = pairs.sparse * (len(rows) + len(columns))
        for kind in pairs.kinds:
            low = pairs.low(rows, columns, kind)
            real = self._inside(low, rows, columns, self.radius_real[columns], kind)
            samples = self._inside(low, rows, columns, self.radius_samples[rows, None], kind, ~self.recalled[columns])
            near = self._near(low, rows, columns, kind)
            if int((~real[2]).sum() + (~samples[2]).sum()) + len(near[0]) <= most:
                break
        self._real(*real)
        self._samples(*samples)
        self._nearest(*near)

    def _inside(
        self, low: Tensor, rows: Tensor, columns: Tensor, radius: Tensor, kind: torch.dtype, still: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs (i, j) that may lie within a radius, and whether they surely do; `still`: only these columns matter."""
        reach = torch.nextafter(radius.to(kind), radius.new_tensor(torch.inf, dtype=kind))
        mask = low <= reach
        i, j = (mask if still is None else mask & still).nonzero(as_tuple=True)
        bound = radius.expand_as(low)[i, j]
        sure = self.pairs.high(low[i, j], rows[i], columns[j], kind) < bound
        return rows[i], columns[j], sure

    def _near(self, low: Tensor, rows: Tensor, columns: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
        """Pairs that may be a sample and its nearest real image."""
        nearest = self.nearest[rows]
        if not bool(nearest.isfinite().all()):
            lowest, j = low.min(1)
            i = torch.arange(len(low), device=low.device)
            nearest = nearest.minimum(self.pairs.high(lowest, rows[i], columns[j], kind).clamp_min(0))
        i, j = (low <= _reach(nearest, kind)[:, None]).nonzero(as_tuple=True)
        return rows[i], columns[j]

    def _real(self, i: Tensor, j: Tensor, sure: Tensor) -> None:
        strict, loose = sure.clone(), sure.clone()
        distances = self.pairs.measured(i[~sure], j[~sure])
        strict[~sure] = distances < self.radius_real[j[~sure]]
        loose[~sure] = distances <= self.radius_real[j[~sure]]
        self.within += torch.bincount(i[strict], minlength=len(self.within))
        self.covered[j[strict]] = True
        self.precise[i[loose]] = True

    def _samples(self, i: Tensor, j: Tensor, sure: Tensor) -> None:
        self.recalled[j[sure]] = True
        still = ~sure & ~self.recalled[j]
        i, j = i[still], j[still]
        self.recalled[j[self.pairs.measured(i, j) <= self.radius_samples[i]]] = True

    def _nearest(self, i: Tensor, j: Tensor) -> None:
        distances = self.pairs.measured(i, j)
        nearest = self.nearest.scatter_reduce(0, i, distances, "amin")
        self.gap[nearest < self.nearest] = -torch.inf
        tied = distances == nearest[i]
        self.gap.scatter_reduce_(0, i[tied], self.next[j[tied]], "amax")
        self.nearest = nearest
