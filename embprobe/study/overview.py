"""The first picture of a page: every figure with a better side, from the worst there is to real held-out images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.table import METRICS, Metric
from embprobe.page.forest import Forest, ForestRow
from embprobe.study.chance import Difference, mean_estimate
from embprobe.study.judging import JudgeReport
from embprobe.study.reading import Study
from embprobe.study.verdict import Contenders, Standing

TWICE = "fd_all"  # tells what FD tells
GAUSSIAN, WORST_ROW = "Gaussian latents", "the worst row"


def forest(study: Study, judge: JudgeReport, how: str) -> Forest | None:
    """The plot of a judge's rows that were drawn alike; None where no figure has a floor."""
    group = dict(sorted(judge.groups[how].items(), key=lambda item: item[1][0].control))
    drawn = study.gaussian_figures(judge.name, [row for rows in group.values() for row in rows])
    standings = {s.column.key: s for s in judge.standings(how)}
    found = (_row(column, group, drawn, standings) for column in METRICS if column.key != TWICE)
    rows = [row for row in found if row is not None]
    controls = frozenset(name for name, mine in group.items() if mine[0].control)
    worst = WORST_ROW if all(row.of_rows for row in rows) else GAUSSIAN
    rows = [replace(row, of_rows=row.of_rows and worst == GAUSSIAN) for row in rows]
    unusable = frozenset(name for name, mine in group.items() if any(row.unusable for row in mine))
    return Forest(list(group), controls, rows, worst, unusable) if rows else None


def _row(
    column: Metric, group: Contenders, drawn: Sequence[Mapping[str, Estimate]], standings: Mapping[str, Standing]
) -> ForestRow | None:
    """A figure's row; None where it has no better side, no floor or nothing to rely on."""
    values = {name: mean_estimate(rows, column.key) for name, rows in group.items()}
    known = {name: value for name, value in values.items() if value is not None and value.reliable}
    floor = next((value.floor.value for value in known.values() if value.floor is not None), None)
    if column.higher is None or not known or floor is None:
        return None
    ends = [figures[column.key].value for figures in drawn if column.key in figures]
    every = [value.value for value in known.values()]
    of_rows = not ends or not _is_worse(column, _worst(column, ends), floor)
    worst = _worst(column, every if of_rows else ends)
    if not _is_worse(column, worst, floor):
        return None
    bars = {name: (value.value, *(value.ends or (None, None))) for name, value in known.items()}
    difference, leader = _lead(standings.get(column.key))
    return ForestRow(column.name, worst, floor, bars, difference, leader, of_rows)


def _is_worse(column: Metric, value: float, floor: float) -> bool:
    return value < floor if column.higher else value > floor


def _worst(column: Metric, values: Sequence[float]) -> float:
    return min(values) if column.higher else max(values)


def _lead(standing: Standing | None) -> tuple[str, str]:
    """How far the best learned encoder is ahead of the next, and who it is where that is more than chance."""
    if standing is None:
        return "", ""
    nearest: Difference = min((*standing.behind, *standing.tied), key=lambda d: abs(d.value))
    return nearest.text(), standing.best if nearest.significant else ""
