"""How much of a difference chance explains: the choice of images, the decoder's seed, the seed of training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from embprobe.metrics.estimate import Estimate, Spread
from embprobe.metrics.table import Metric
from embprobe.store import Json
from embprobe.study.rows import Row

Source = Literal["images", "training", "decoder"]
SOURCES: dict[Source, str] = {
    "images": "choice of images",
    "training": "seed of training",
    "decoder": "seed of the decoder",
}
LEVEL = 0.05
MANY = 1000.0  # degrees of freedom of a variance that is known


@dataclass(frozen=True)
class Mean:
    """An encoder's figure over its rows, each training counting alike, and how far chance moves it."""

    value: float
    spread: Spread  # by the choice of images
    trained: tuple[float, ...]  # its mean in each training
    decoded: tuple[float, ...]  # its mean by each decoder, where one training has several; else nothing
    references: frozenset[str | None]

    @staticmethod
    def of(rows: Sequence[Row], key: str) -> "Mean | None":
        """Of the rows that have the figure with an interval; None without any."""
        from embprobe.metrics.intervals import averaged

        mine = [row for row in rows if key in row.values]
        spreads = [_spread(row.values[key]) for row in mine]
        if not mine or any(spread is None for spread in spreads):
            return None
        trained = _means([(row.training, row.values[key].value) for row in mine])
        pairs = {(row.training, row.decoding) for row in mine}
        decoded = _means([(row.decoding, row.values[key].value) for row in mine]) if len(pairs) > len(trained) else {}
        return Mean(
            sum(trained.values()) / len(trained),
            averaged([spread for spread in spreads if spread is not None]),
            tuple(trained.values()),
            tuple(decoded.values()),
            frozenset(row.reference for row in mine),
        )

    @property
    def ends(self) -> tuple[float, float]:
        """Its 95 % interval: over the choice of images, over the seeds where these vary more than that explains."""
        from embprobe.metrics.intervals import sampling, student, welch

        variance, freedom = sampling(self.spread, Spread(), paired=False)
        reach = student(freedom) * math.sqrt(variance)
        repeated = [_of_seeds(values) for values in (self.trained, self.decoded) if len(values) > 1]
        total, of_seeds = welch(repeated) if repeated else (0.0, 1.0)
        if total > variance:
            reach = max(reach, student(of_seeds) * math.sqrt(total))
        return self.value - reach, self.value + reach


def _of_seeds(values: Sequence[float]) -> tuple[float, float]:
    """Variance of a mean over seeds, and its degrees of freedom."""
    from statistics import variance

    return variance(values) / len(values), len(values) - 1.0


def mean_estimate(rows: Sequence[Row], key: str) -> Estimate | None:
    """An encoder's figure over its rows, with the interval that its differences go by; a single row's is its own."""
    mine = [row.values[key] for row in rows if key in row.values]
    if len(mine) <= 1:
        return mine[0] if mine else None
    reliable, mean = all(estimate.reliable for estimate in mine), Mean.of(rows, key)
    if mean is None:
        return Estimate(sum(estimate.value for estimate in mine) / len(mine), reliable=reliable)
    low, high = mean.ends
    return Estimate(mean.value, low, high, floor=mine[0].floor, reliable=reliable)


def _means(pairs: Sequence[tuple[str, float]]) -> dict[str, float]:
    """The mean of the values of each name."""
    values: dict[str, list[float]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return {name: sum(mine) / len(mine) for name, mine in values.items()}


def _spread(estimate: Estimate) -> Spread | None:
    """An estimate's own; from its interval where it has no more; None without either."""
    if estimate.spread is not None:
        return estimate.spread
    if estimate.ends is None:
        return None
    return Spread(((estimate.ends[1] - estimate.ends[0]) / 3.92) ** 2, MANY)


@dataclass(frozen=True)
class Difference:
    """first − second in one figure, with its own 95 % interval, and how likely chance alone is behind it."""

    column: Metric
    first: str
    second: str
    value: float
    low: float
    high: float
    p: float  # by itself
    variances: Mapping[Source, float]  # of the difference, by what causes them
    paired: bool  # what the choice of the reference adds to both was subtracted
    corrected: float = 1.0  # p, corrected for all comparisons of the family
    barred: bool = False  # one side is not usable: no conclusion

    @property
    def significant(self) -> bool:
        """Whether it is more than chance, among all comparisons of the family."""
        return self.corrected < LEVEL and not self.barred

    @property
    def first_better(self) -> bool:
        return (self.value > 0) == bool(self.column.higher)

    def lead(self) -> tuple[float, float, float]:
        """How far the better one is ahead: its size and the ends of its interval."""
        return (self.value, self.low, self.high) if self.value > 0 else (-self.value, -self.high, -self.low)

    def text(self) -> str:
        """SIZE [LOW, HIGH]; an end that is not 0 never reads as 0."""
        size, low, high = (self.column.text(v) for v in self.lead())
        return f"{size} [{low}, {high}]"

    @property
    def method(self) -> str:
        """What its interval covers."""
        words = " + ".join(SOURCES[source] for source in self.variances)
        return f"{words}{', paired on the reference' if self.paired else ''}"

    def json(self) -> dict[str, Json]:
        names = ("first", "second", "value", "low", "high", "p", "corrected", "significant", "barred", "paired")
        facts: dict[str, Json] = {name: getattr(self, name) for name in names}
        return {"metric": self.column.key, **facts, "variances": dict(self.variances)}


def row_difference(column: Metric, a: tuple[str, Sequence[Row]], b: tuple[str, Sequence[Row]]) -> Difference | None:
    """a − b by Student's t, over the choice of images and over what seeds there are; None without intervals.

    None too for figures that aren't reliable, and where a bias that depends on the number of images would pass for a
    difference. Where trainings were repeated, the interval is that of images alone if their means vary by no more than
    that explains, else by Student's t over the means (Welch 1947); p is the larger of both, since a few seeds that agree
    by luck must not make a claim. Where only one side repeated them, its spread stands for both.
    """
    from embprobe.metrics.intervals import sampling, student, two_tailed, welch

    rows = [row for row in (*a[1], *b[1]) if column.key in row.values]
    reliable = all(row.values[column.key].reliable for row in rows)
    alike = len({row.count for row in rows}) == 1 or column.any_count
    ours, theirs = Mean.of(a[1], column.key), Mean.of(b[1], column.key)
    if column.is_control or not reliable or not alike or ours is None or theirs is None:
        return None
    value = ours.value - theirs.value
    shared = len(ours.references | theirs.references) == 1 and None not in ours.references
    paired = shared and not column.own_reference and bool(ours.spread.reference)
    variance, freedom = sampling(ours.spread, theirs.spread, paired=paired)
    variances: dict[Source, float] = {"images": variance}
    reach, p = student(freedom) * math.sqrt(variance), two_tailed(value, variance, freedom)
    seeds: dict[Source, tuple[float, float] | None] = {
        "training": over_seeds(ours.trained, theirs.trained),
        "decoder": over_seeds(ours.decoded, theirs.decoded),
    }
    known = {source: found for source, found in seeds.items() if found is not None}
    if known:
        variances |= {source: found[0] for source, found in known.items()}
        total, of_seeds = welch(list(known.values()))
        if total > variance:
            reach = max(reach, student(of_seeds) * math.sqrt(total))
        p = max(p, two_tailed(value, total, of_seeds))
    return Difference(column, a[0], b[0], value, value - reach, value + reach, p, variances, paired)


def over_seeds(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float] | None:
    """Variance and freedom of the difference of two means over seeds; None where neither side has several."""
    from statistics import variance

    from embprobe.metrics.intervals import welch

    known = [variance(side) for side in (ours, theirs) if len(side) > 1]
    if not known:
        return None
    parts = []
    for side in (ours, theirs):
        own = variance(side) if len(side) > 1 else known[0]
        most = max(len(ours), len(theirs))
        parts.append((own / max(1, len(side)), float((len(side) if len(side) > 1 else most) - 1)))
    return welch(parts)


def corrected(differences: Sequence[Difference]) -> list[Difference]:
    """A family of differences, each p corrected by Holm's method for their number; barred ones stay out of it."""
    from embprobe.metrics.intervals import holm

    family = [d for d in differences if not d.barred and d.column.higher is not None]
    fixed = dict(zip(map(id, family), holm([d.p for d in family]), strict=True))
    others = [d for d in differences if not d.barred and d.column.higher is None]
    fixed |= dict(zip(map(id, others), holm([d.p for d in others]), strict=True))
    return [replace(d, corrected=fixed.get(id(d), 1.0)) for d in differences]
