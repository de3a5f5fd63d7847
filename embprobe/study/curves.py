"""Figures over training: the area under a curve, and how long until a target is reached."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.table import METRICS
from embprobe.store import Json
from embprobe.study.reading import Study

Line = Sequence[tuple[float, float]]  # (epochs, value), epochs above 0 and rising


@dataclass(frozen=True)
class Point:
    """A figure after some epochs, of so many samples."""

    epochs: float
    estimate: Estimate
    count: int


def shared_range(lines: Sequence[Line]) -> tuple[float, float] | None:
    """The epochs that all lines cover; None where they don't overlap in more than a point."""
    if not lines or not all(lines):
        return None
    low, high = max(line[0][0] for line in lines), min(line[-1][0] for line in lines)
    return (low, high) if low < high else None


def at(line: Line, epochs: float) -> float:
    """A line's value, linear in log epochs between its points."""
    for (x0, y0), (x1, y1) in pairwise(line):
        if x0 <= epochs <= x1:
            return y0 + (y1 - y0) * math.log(epochs / x0) / math.log(x1 / x0)
    raise ValueError(f"{epochs} epochs lie outside of {line[0][0]} to {line[-1][0]}")


def area(line: Line, span: tuple[float, float]) -> float:
    """The mean over log epochs in `span`, by the trapezoid rule: in the figure's own unit."""
    inner = [(x, y) for x, y in line if span[0] < x < span[1]]
    points = [(span[0], at(line, span[0])), *inner, (span[1], at(line, span[1]))]
    steps = pairwise(points)
    total = sum((y0 + y1) / 2 * math.log(x1 / x0) for (x0, y0), (x1, y1) in steps)
    return total / math.log(span[1] / span[0])


def epochs_until(line: Line, target: float) -> float | None:
    """When a falling figure first reaches `target`, log-linear between points; None if it never does."""
    if line[0][1] <= target:
        return line[0][0]
    for (x0, y0), (x1, y1) in pairwise(line):
        if y1 <= target < y0:
            return x0 * math.exp(math.log(x1 / x0) * (y0 - target) / (y0 - y1))
    return None


# ---- of a study


@dataclass(frozen=True)
class Course:
    """A judge's figures over training, by metric and row, and what they come to."""

    series: Mapping[str, Mapping[str, Sequence[Point]]]
    summary: dict[str, Json]

    def json(self) -> dict[str, Json]:
        """Areas, epochs until the target, and every point: epochs, value, ends of the interval, samples."""
        told: Json = {
            key: {
                name: [[p.epochs, p.estimate.value, p.estimate.low, p.estimate.high, p.count] for p in line]
                for name, line in lines.items()
            }
            for key, lines in self.series.items()
        }
        return {**self.summary, "points": told}


def courses(study: Study, judges: Sequence[str], target: float | None) -> dict[str, Course]:
    """The course of every judge's figures; the target is the first judge's."""
    found = {}
    for number, judge in enumerate(judges):
        series = {m.key: points(study, judge, m.key) for m in METRICS if m.over_training}
        found[judge] = Course(series, curve_summary(series, None if number else target))
    return found


def points(study: Study, judge: str, key: str) -> dict[str, list[Point]]:
    """A figure over the milestones that were evaluated, by row; rows with a single point are left out."""
    lines: dict[str, dict[float, Point]] = {}
    for evaluation, stage in study.course[judge]:
        estimate = stage.values.get(key)
        if estimate is not None:
            point = Point(stage.epochs, estimate, stage.count)
            lines.setdefault(study.name(evaluation), {}).setdefault(point.epochs, point)
    return {name: [line[x] for x in sorted(line)] for name, line in lines.items() if len(line) > 1}


def curve_summary(series: Mapping[str, Mapping[str, Sequence[Point]]], target: float | None) -> dict[str, Json]:
    """Areas of every figure and epochs until FD ≤ target, by row; without one, the worst last FD of the rows."""
    rows: dict[str, dict[str, Json]] = {}
    spans = {}
    for key, lines in series.items():
        plain = {name: [(p.epochs, p.estimate.value) for p in line] for name, line in lines.items()}
        span = shared_range(list(plain.values()))
        spans[key] = span
        if key == "fd" and plain and target is None:
            target = max(line[-1][1] for line in plain.values())
        for name, line in plain.items():
            rows.setdefault(name, {})[f"{key}_area"] = area(line, span) if span else None
            if key == "fd" and target is not None:
                rows[name]["epochs_until"] = epochs_until(line, target)
    return {"target": target, "spans": spans, "rows": rows}
