"""Who wins where: differences between rows drawn the same way, with 95 % intervals, and what they say in sentences."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.table import METRICS, Metric
from embprobe.store import Json
from embprobe.study.rows import Row

Method = Literal["paired", "unpaired", "seeds", "intervals"]
METHODS: dict[Method, str] = {
    "paired": "jackknife, paired on the reference images",
    "unpaired": "jackknife, unpaired",
    "seeds": "t over training seeds",
    "intervals": "from the two intervals, as if independent",
}
Contenders = Mapping[str, Sequence[Row]]  # encoder → its rows, one a training seed


@dataclass(frozen=True)
class Difference:
    """first − second in one figure, with its 95 % interval."""

    column: Metric
    first: str
    second: str
    value: float
    low: float
    high: float
    method: Method

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0

    @property
    def first_better(self) -> bool:
        return (self.value > 0) == bool(self.column.higher)

    def lead(self) -> tuple[float, float, float]:
        """How far the better one is ahead: its size and the ends of its interval."""
        return (self.value, self.low, self.high) if self.value > 0 else (-self.value, -self.high, -self.low)

    def text(self) -> str:
        """by SIZE [LOW, HIGH]."""
        size, low, high = (self.column.text(v) for v in self.lead())
        return f"{size} [{low}, {high}]"

    def json(self) -> dict[str, Json]:
        facts = {k: getattr(self, k) for k in ("first", "second", "value", "low", "high", "method", "significant")}
        return {"metric": self.column.key, **facts}


def groups(rows: Sequence[Row]) -> dict[str, dict[str, list[Row]]]:
    """Rows that may be compared: by how they were drawn, then by encoder."""
    by_drawing: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        if not row.is_floor:
            by_drawing.setdefault(row.how, {}).setdefault(row.encoder, []).append(row)
    return by_drawing


def differences(contenders: Contenders) -> list[Difference]:
    """Every pair of encoders in every figure that has an interval for both."""
    pairs = combinations(contenders.items(), 2)
    every = [row_difference(c, (a, rows_a), (b, rows_b)) for (a, rows_a), (b, rows_b) in pairs for c in METRICS]
    return sorted((d for d in every if d is not None), key=lambda d: METRICS.index(d.column))


def row_difference(column: Metric, a: tuple[str, Sequence[Row]], b: tuple[str, Sequence[Row]]) -> Difference | None:
    """a − b: Welch's t over training seeds where both have several, else by the images; None without intervals.

    None too for figures that aren't reliable, and where a bias that depends on the number of images would pass for a
    difference. Figures whose jackknife is missing or sees nothing vary (a share of 0 or 1) fall back on their two
    intervals (Zou & Donner 2008), which takes them for independent.
    """
    ours, theirs = ([r.values[column.key] for r in rows if column.key in r.values] for rows in (a[1], b[1]))
    counts = {r.count for rows in (a[1], b[1]) for r in rows}
    if column.is_control or not all(f.reliable for f in (*ours, *theirs)):
        return None
    if not ours or not theirs or (len(counts) > 1 and not column.any_count):
        return None
    interval: tuple[float, float, float] | None
    method: Method
    if all(len({r.seed for r in rows}) == len(rows) > 1 for rows in (a[1], b[1])):
        interval, method = _over_seeds(ours, theirs), "seeds"
    else:
        same = a[1][0].reference is not None and a[1][0].reference == b[1][0].reference
        interval, method = _over_images(ours[0], theirs[0], paired=same and not column.own_reference)
    return None if interval is None else Difference(column, a[0], b[0], *interval, method)


def _over_images(a: Estimate, b: Estimate, *, paired: bool) -> tuple[tuple[float, float, float] | None, Method]:
    from embprobe.metrics.intervals import difference as jackknifed

    interval = jackknifed(a.value, a.jackknife, b.value, b.jackknife, paired=paired)
    if interval is not None and ((_varies(a) and _varies(b)) or a.ends is None or b.ends is None):
        both = paired and all("reference" in f.jackknife for f in (a, b) if f.jackknife)
        return interval, "paired" if both else "unpaired"
    if a.ends is None or b.ends is None:
        return None, "intervals"
    apart = a.value - b.value
    low = math.hypot(a.value - a.ends[0], b.ends[1] - b.value)
    high = math.hypot(a.ends[1] - a.value, b.value - b.ends[0])
    return (apart, apart - low, apart + high), "intervals"


def _varies(figure: Estimate) -> bool:
    """Whether leaving out some images changes a figure at all."""
    return any(len(set(side)) > 1 for side in (figure.jackknife or {}).values())


def _over_seeds(ours: Sequence[Estimate], theirs: Sequence[Estimate]) -> tuple[float, float, float] | None:
    """Welch's t; leaving out one seed at a time gives a mean its usual standard error."""
    from embprobe.metrics.intervals import difference as jackknifed

    means = [sum(f.value for f in side) / len(side) for side in (ours, theirs)]
    without_a_seed = [
        {"samples": [(mean * len(side) - f.value) / (len(side) - 1) for f in side]}
        for mean, side in zip(means, (ours, theirs), strict=True)
    ]
    return jackknifed(means[0], without_a_seed[0], means[1], without_a_seed[1], paired=False)


# ---- who is ahead


@dataclass(frozen=True)
class Standing:
    """One figure: the best encoder, those it is ahead of and those it can't be told from, nearest first."""

    column: Metric
    best: str
    value: float
    values: Mapping[str, float]
    behind: tuple[Difference, ...]
    tied: tuple[Difference, ...]

    @property
    def others(self) -> int:
        return len(self.behind) + len(self.tied)


def other(difference: Difference, best: str) -> str:
    """The one that is not the best."""
    return difference.second if difference.first == best else difference.first


def standings(contenders: Contenders) -> list[Standing]:
    """A standing for each figure with a direction and with an interval to every encoder that has it."""
    standing_by_metric, pairs = [], differences(contenders)
    for column in METRICS:
        mine = [d for d in pairs if d.column == column]
        values = mean_values(contenders, column)
        if column.higher is None or not mine or len(values) < 2:
            continue
        best = (max if column.higher else min)(values, key=lambda name: values[name])
        of_best = sorted((d for d in mine if best in (d.first, d.second)), key=lambda d: abs(d.value))
        behind, tied = (tuple(d for d in of_best if d.significant == apart) for apart in (True, False))
        standing_by_metric.append(Standing(column, best, values[best], values, behind, tied))
    return standing_by_metric


def mean_values(contenders: Contenders, column: Metric) -> dict[str, float]:
    """Each encoder's figure, averaged over its seeds."""
    means = {}
    for name, rows in contenders.items():
        values = [r.values[column.key].value for r in rows if column.key in r.values]
        if values:
            means[name] = sum(values) / len(values)
    return means


# ---- in sentences


@dataclass(frozen=True)
class Sentence:
    """What to say of someone."""

    subject: str
    rest: str

    def __str__(self) -> str:
        return f"{self.subject} {self.rest}".strip()


def answer(contenders: Contenders) -> list[Sentence]:
    """Which learned encoder is ahead in what and by how much, what can't be told, and where controls stand."""
    learned = {name: rows for name, rows in contenders.items() if not rows[0].control}
    controls = {name: rows for name, rows in contenders.items() if rows[0].control}
    said = _wins(standings(learned)) if len(learned) > 1 else []
    if len(learned) == 1:
        said.append(Sentence(next(iter(learned)), "is the only learned encoder here."))
    elif len(learned) > 1 and not said:
        names = listed(list(learned))
        said.append(Sentence(names, "share no figure with an interval, so nothing can be said of their difference."))
    if not learned and len(controls) > 1:
        return _wins(standings(controls))
    return said + [s for name, rows in controls.items() if (s := _control(name, rows, learned))]


def _wins(standings: Sequence[Standing]) -> list[Sentence]:
    clear: dict[str, list[Standing]] = {}
    for standing in standings:
        if not standing.tied:
            clear.setdefault(standing.best, []).append(standing)
    said = [Sentence(name, _led(of)) for name, of in sorted(clear.items(), key=lambda item: -len(item[1]))]
    said += [_shared(s) for s in standings if s.tied and s.behind]
    return said + _open([s for s in standings if s.tied and not s.behind])


def _shared(standing: Standing) -> Sentence:
    """A and B lead in FD and can't be told apart …; C is behind."""
    column, closest = standing.column, standing.tied[0]
    ahead = [standing.best, *(other(d, standing.best) for d in standing.tied)]
    behind = [other(d, standing.best) for d in standing.behind]
    near = f"{standing.best} {column.text(standing.value)}, better than {ahead[1]} by {closest.text()}"
    verb = "is" if len(behind) == 1 else "are"
    return Sentence(
        listed(ahead),
        f"lead in {column.in_a_sentence} and can't be told apart ({near}); {listed(behind)} {verb} behind.",
    )


def _led(standings: Sequence[Standing]) -> str:
    """leads OTHER in FD (1.0 against 2.0, by 1.0 [0.5, 1.5]) and …; with several others, OTHER is the next."""
    clauses, alone = [], all(s.others == 1 for s in standings)
    rival = other(standings[0].behind[0], standings[0].best)
    for standing in standings:
        next_best = standing.behind[0]
        name, column = other(next_best, standing.best), standing.column
        against = column.text(standing.values[name]) if alone else f"{column.text(standing.values[name])} of {name}"
        clauses.append(
            f"{column.in_a_sentence} ({column.text(standing.value)} against {against}, by {next_best.text()})"
        )
    whom = rival if alone else "all the others" if standings[0].others > 2 else "both others"
    return f"leads {whom} in {listed(clauses)}."


def _open(standings: Sequence[Standing]) -> list[Sentence]:
    """They can't be told apart in …"""
    if not standings:
        return []
    clauses = [
        f"{s.column.in_a_sentence} ({s.best} better by {s.tied[0].text()})"
        if s.tied[0].value
        else f"{s.column.in_a_sentence} (apart by {s.tied[0].text()})"
        for s in standings
    ]
    if all(s.others == 1 for s in standings):
        both = listed([standings[0].best, other(standings[0].tied[0], standings[0].best)])
        return [Sentence(both, f"can't be told apart in {listed(clauses, last='or')}.")]
    clauses = [f"{s.column.in_a_sentence} ({s.best} {s.column.text(s.value)})" for s in standings]
    return [Sentence("", f"No other can be told from the best in {listed(clauses, last='or')}.")]


def _control(name: str, rows: Sequence[Row], learned: Contenders) -> Sentence | None:
    """Where a control is ahead of, or behind, every learned encoder."""
    sides: dict[bool, list[str]] = {True: [], False: []}
    for column in [c for c in METRICS if c.higher is not None]:
        pairs = [row_difference(column, (name, rows), rival) for rival in learned.items()]
        clear = [d for d in pairs if d is not None and d.significant]
        if pairs and len(clear) == len(pairs):
            for ahead in (True, False):
                if all(d.first_better == ahead for d in clear):
                    sides[ahead].append(column.in_a_sentence)
    every = "every learned encoder" if len(learned) > 1 else next(iter(learned), "")
    parts = [
        f"{word} {every} in {listed(sides[side])}"
        for side, word in ((True, "is ahead of"), (False, "is behind"))
        if sides[side]
    ]
    return Sentence(name, f"(a control) {' and '.join(parts)}.") if parts else None


def listed(words: Sequence[str], last: str = "and") -> str:
    """a, b and c."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"
