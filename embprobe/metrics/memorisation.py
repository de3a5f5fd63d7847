"""Memorisation: are samples nearer to training images than to held-out ones, and which of them are copies?"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from embprobe.metrics.intervals import wilson

K = 5  # how far a sample's nearest image stands out is judged by its fifth nearest
SHARE = 0.02  # of the samples, those whose nearest image stands out most
LEAST = 20  # of them at least
COPY = 0.5  # a copy is at most this times as far from its training image as from any held-out one and its fifth nearest one
QUERIES = 256


@dataclass(frozen=True)
class Near:
    """For each query its nearest points: Euclidean distances (M,k) f64, ascending, and their rows (M,k)."""

    distance: Tensor
    row: Tensor


def nearest(queries_MD: Tensor, blocks: Iterable[Tensor], k: int = K) -> Near:
    """The k nearest of all points, which come in blocks (B,D) in order of their rows, so that they need not fit in memory.

    Candidates are found in f32 about the queries' mean and measured again in f64.
    """
    centre = queries_MD.double().mean(0)
    queries = (queries_MD - centre).float()
    best = Near(torch.zeros(len(queries), 0, dtype=torch.float64), torch.zeros(len(queries), 0, dtype=torch.int64))
    first = 0
    for block in blocks:
        points = (block - centre).float()
        parts = [_within(part, points, k) for part in torch.split(queries, QUERIES)]
        distance = torch.cat([best.distance, torch.cat([d for d, _ in parts])], 1)
        row = torch.cat([best.row, torch.cat([r for _, r in parts]) + first], 1)
        order = distance.argsort(dim=1, stable=True)[:, :k]
        best = Near(distance.gather(1, order), row.gather(1, order))
        first += len(block)
    return best


def _within(queries_QD: Tensor, points_BD: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Distances and places of the k nearest points of one block."""
    rough = points_BD.square().sum(1) - 2 * queries_QD @ points_BD.T
    places = rough.topk(min(k, len(points_BD)), dim=1, largest=False).indices
    exact = [
        (points_BD[p].double() - q.double()).square().sum(1).sqrt() for q, p in zip(queries_QD, places, strict=True)
    ]
    return torch.stack(exact), places


@dataclass(frozen=True)
class Memorisation:
    """What the distances of M samples to N training and H held-out images tell."""

    p: float  # that held-out images would look as memorised as these: twice the smaller of the next two, at most 1
    p_all: float  # from all samples: more of them are nearest to a training image than the sets' sizes explain
    p_near: float  # from the samples whose nearest image stands out most
    nearer: float  # share of samples nearest to a training image
    expected: float  # the same without memorisation: N / (N + H)
    copies: int
    share: tuple[float, float, float]  # copies of all samples, with Wilson's 95 % interval
    ratio: Tensor  # (M,) f64: distance to the nearest training image over that to the nearest held-out or fifth nearest one


def memorisation(train: Near, held: Near, train_count: int, held_count: int) -> Memorisation:
    """A test for copying that blur does not fool; after Meehan et al. 2020, with held-out images in the samples' stead.

    Where nothing was learned by heart, training and held-out images are exchangeable for a sample: its nearest among
    all of them is a training image as often as one drawn at random. A blurred sample is nearer to every image, to
    those held out as well. Samples that share their nearest image share its luck, so each image counts by its square
    in the variance. A few copies in many samples show only among those whose nearest image stands out (first over
    fifth distance), which is the second test: there each image counts once, and the count is hypergeometric.
    """
    from scipy.stats import hypergeom, norm

    total, expected = train_count + held_count, train_count / (train_count + held_count)
    distance, order = torch.cat([train.distance, held.distance], 1).sort(dim=1, stable=True)
    row = torch.cat([train.row, held.row + train_count], 1).gather(1, order)
    mine, is_train = row[:, 0], row[:, 0] < train_count
    shared = torch.bincount(mine).double()
    deviation = math.sqrt(expected * (1 - expected) * float(shared.square().sum()))
    p_all = float(norm.sf((float(is_train.sum()) - expected * len(mine)) / deviation))

    fifth = distance[:, min(K, distance.shape[1]) - 1]
    stands_out = distance[:, 0] / fifth.clamp_min(1e-300)
    chosen = stands_out.argsort(stable=True)[: max(LEAST, round(SHARE * len(mine)))]
    images = torch.unique(mine[chosen])
    hits = int((images < train_count).sum())
    p_near = float(hypergeom.sf(hits - 1, total, train_count, len(images)))

    others = held.distance[:, 0].minimum(train.distance[:, -1])
    ratio = train.distance[:, 0] / others.clamp_min(1e-300)
    copies = int((ratio <= COPY).sum())
    return Memorisation(
        p=min(1.0, 2 * min(p_all, p_near)),
        p_all=p_all,
        p_near=p_near,
        nearer=float(is_train.double().mean()),
        expected=expected,
        copies=copies,
        share=(copies / len(mine), *wilson(copies, len(mine))),
        ratio=ratio,
    )
