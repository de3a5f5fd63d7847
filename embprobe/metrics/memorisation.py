"""Memorisation: are samples nearer to training images than to held-out ones, and which of them are copies?"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from embprobe.metrics.intervals import wilson

K = 5  # how far a sample's nearest image stands out is judged by its fifth nearest
COPY = (
    0.5  # what looks copied is at most this times as far from its training image as from any held-out one and its fifth
)
WARNING = 0.01  # as rare as a false warning is, over all spaces that are searched
QUERIES = 256


@dataclass(frozen=True)
class Near:
    """For each query its nearest points: Euclidean distances (M,k) f64, ascending, and their rows (M,k)."""

    distance: Tensor
    row: Tensor


def nearest(queries_MD: Tensor, blocks: Iterable[Tensor], k: int = K) -> Near:
    """The k nearest of all points, which come in blocks (B,D) in order of their rows, so that they need not fit in memory;
    found where the queries lie.

    Candidates are found in f32 about the queries' mean and measured again in f64.
    """
    centre = queries_MD.double().mean(0)
    queries = (queries_MD - centre).float()
    distance, row = (
        queries.new_zeros(len(queries), 0, dtype=torch.float64),
        torch.zeros(len(queries), 0, dtype=torch.int64),
    )
    best, first = Near(distance, row.to(queries.device)), 0
    for block in blocks:
        points = (block.to(queries.device) - centre).float()
        parts = [_within(part, points, k) for part in torch.split(queries, QUERIES)]
        distance = torch.cat([best.distance, torch.cat([d for d, _ in parts])], 1)
        row = torch.cat([best.row, torch.cat([r for _, r in parts]) + first], 1)
        order = distance.argsort(dim=1, stable=True)[:, :k]
        best = Near(distance.gather(1, order), row.gather(1, order))
        first += len(block)
    return Near(best.distance.cpu(), best.row.cpu())


def _within(queries_QD: Tensor, points_BD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Distances and places of the k nearest points of one block."""
    rough = torch.addmm(points_BD.square().sum(1), queries_QD, points_BD.T, alpha=-2)
    places = rough.topk(min(k, len(points_BD)), dim=1, largest=False).indices
    distances = torch.empty_like(places, dtype=torch.float64)
    for one in range(places.shape[1]):
        difference = points_BD[places[:, one]].double() - queries_QD
        distances[:, one] = difference.square_().sum(1).sqrt_()
    order = distances.argsort(dim=1, stable=True)
    return distances.gather(1, order), places.gather(1, order)


def without_own(near: Near, own_M: Tensor, k: int) -> Near:
    """The k nearest of k + 1, each query's own row left out; −1 for a query that is none of the points."""
    distance = near.distance.masked_fill(near.row == own_M[:, None], torch.inf)
    order = distance.argsort(dim=1, stable=True)[:, : min(k, distance.shape[1])]
    return Near(distance.gather(1, order), near.row.gather(1, order))


def ratios(train: Near, held: Near) -> Tensor:
    """Distance to the nearest training image over that to the nearest held-out one, or to the fifth training image (M,) f64.

    Whichever of the two is nearer; 1 where it is at no distance, since then nothing stands out.
    """
    other = held.distance[:, 0].minimum(train.distance[:, min(K, train.distance.shape[1]) - 1])
    return torch.where(other > 0, train.distance[:, 0] / other.clamp_min(1e-300), 1.0)


@dataclass(frozen=True)
class Memorisation:
    """What the distances of M samples to N training and H held-out images tell."""

    p: float  # that samples which copy nothing would look as memorised as these: twice the smaller of the next two, at most 1
    p_all: float  # from all samples: more of them are nearest to a training image than the sets' sizes explain
    p_copies: float  # from the samples that look copied: more of them do than of images that are known to be no copies
    nearer: float  # share of samples nearest to a training image
    expected: float  # the same without memorisation: N / (N + H)
    copies: int
    base: tuple[int, int]  # of how many images known to be no copies how many look copied
    share: tuple[float, float, float]  # that look copied, the least share that is sure, Wilson's upper end
    ratio: Tensor  # (M,) f64: distance to the nearest training image over that to the nearest held-out or fifth nearest one


def memorisation(train: Near, held: Near, train_count: int, held_count: int, known_B: Tensor) -> Memorisation:
    """Two tests for copying that blur does not fool; the first after Meehan et al. 2020, held-out images in the samples' stead.

    No training image may equal another, nor a held-out one. Where nothing was learned by heart, training and held-out
    images are exchangeable for a sample: its nearest among all of them is a training image as often as one drawn at
    random. A blurred sample is nearer to every image, to those held out as well. Samples that share their nearest image
    share its luck, so each image counts by its square in the variance; equal distances tell nothing. A few copies in many
    samples show only where they stand out: the second test is Fisher's exact one, of the samples that look copied against
    real images that are no copies, whose ratios (B,) are `known_B`.
    """
    from scipy.stats import hypergeom, norm

    ratio, expected = ratios(train, held), train_count / (train_count + held_count)
    to_train, to_held = train.distance[:, 0], held.distance[:, 0]
    is_train = torch.where(to_train == to_held, expected, (to_train < to_held).double())
    mine = torch.where(to_train <= to_held, train.row[:, 0], held.row[:, 0] + train_count)
    shared = torch.bincount(mine).double()
    deviation = math.sqrt(expected * (1 - expected) * float(shared.square().sum()))
    p_all = float(norm.sf((float(is_train.sum()) - expected * len(mine)) / deviation))

    copies, false, count = int((ratio <= COPY).sum()), int((known_B <= COPY).sum()), len(known_B)
    p_copies = float(hypergeom.sf(copies - 1, len(ratio) + count, copies + false, len(ratio)))
    low, high = least_excess(copies, len(ratio), false, count), wilson(copies, len(ratio))[1]
    return Memorisation(
        p=min(1.0, 2 * min(p_all, p_copies)),
        p_all=p_all,
        p_copies=p_copies,
        nearer=float(is_train.mean()),
        expected=expected,
        copies=copies,
        base=(false, count),
        share=(copies / len(ratio), low, high),
        ratio=ratio,
    )


def least_excess(successes: int, count: int, base: int, base_count: int) -> float:
    """The lower 95 % end of a share less another, at least 0; Newcombe 1998, method 10."""
    share, other = successes / count, base / base_count if base_count else 0.0
    below, above = share - wilson(successes, count)[0], wilson(base, base_count)[1] - other
    return max(0.0, share - other - math.hypot(below, above))
