"""Floors: what real images get in the place of the samples, at the samples' own number."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from embprobe.evaluation.features import FeatureSet
from embprobe.metrics.estimate import Estimate
from embprobe.metrics.table import METRIC
from embprobe.store import Json

LAWS = {"fd": 1.0, "score": 1.0, "tv": 0.5}
"""Figures that real images get only because they are few, by the power of their number that it falls with."""


@dataclass(frozen=True)
class Floor:
    """Real images in the place of `wanted` samples, and those they are measured against, which are others."""

    images: FeatureSet
    reference: FeatureSet
    wanted: int
    held_out: int  # of `images`; the rest are training images

    @property
    def extrapolated(self) -> bool:
        """Whether there are fewer images than samples, so that the floor at their number must be foretold."""
        return len(self.images) < self.wanted

    def json(self) -> dict[str, Json]:
        own = len(self.images)
        facts = {"images": own, "held_out": self.held_out, "training": own - self.held_out}
        return facts | {"at": self.wanted, "extrapolated": self.extrapolated}


def floor_of(train: FeatureSet, held: FeatureSet, reference: FeatureSet, *, learned: bool) -> Floor:
    """Held-out images, made up to the number of the reference by training images that are not in it.

    Where there are too few of either, real images are halved and the floor is taken at that number. A judge that
    `learned` from the training images sees them otherwise than any others: only held-out ones stand in for samples then.
    """
    count = len(reference)
    if len(held) >= count:
        return Floor(held.cut(count), reference, count, count)
    if learned:
        return Floor(held, reference.cut(len(held)), count, len(held))
    spare = train.where(~np.isin(train.rows, reference.rows))
    if len(held) + len(spare) >= count:
        return Floor(held.joined(spare.cut(count - len(held))), reference, count, len(held))
    half = (len(held) + len(train)) // 2
    if half <= len(held):
        return Floor(held.cut(len(train)), train, count, min(len(held), len(train)))
    added = train.cut(half - len(held))
    rest = train.where(~np.isin(train.rows, added.rows))
    return Floor(held.joined(added), rest.cut(half), count, len(held))


def foretold(found: Mapping[str, Estimate], halved: Mapping[str, float], floor: Floor) -> dict[str, Estimate]:
    """The figures at the number wanted: v(n) = a + b·n^−p through those of all images and of their halves."""
    own, wanted = len(floor.images), floor.wanted
    moved = dict(found)
    for key, power in LAWS.items():
        if floor.extrapolated and key in found and key in halved:
            value = found[key]
            share = (1 - (own / wanted) ** power) / (2**power - 1)
            step = (halved[key] - value.value) * share
            least = METRIC[key].least
            ends = [None if end is None else max(end - step, least or 0.0) for end in (value.low, value.high)]
            moved[key] = replace(value, value=max(value.value - step, least or 0.0), low=ends[0], high=ends[1])
    return moved
