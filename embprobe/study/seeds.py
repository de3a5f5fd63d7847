"""Rows that differ in their seeds alone, as one: the mean, with what it is the mean of folded under it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from embprobe.metrics.table import METRICS
from embprobe.study.chance import mean_estimate
from embprobe.study.rows import Row


@dataclass(frozen=True)
class Folded:
    """Rows, and for each that is folded away the place of the one that stands for it."""

    rows: Sequence[Row]
    under: dict[int, int]

    @property
    def shown(self) -> list[Row]:
        """Those that are not folded away."""
        return [row for i, row in enumerate(self.rows) if i not in self.under]


def averaged_rows(rows: Sequence[Row]) -> Folded:
    """A row for each encoder and way of drawing, in their order; the mean where there are several seeds."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        alone = () if row.kind == "samples" else (str(id(row)),)
        groups.setdefault((row.kind, row.encoder, row.how, *alone), []).append(row)
    told: list[Row] = []
    under: dict[int, int] = {}
    for group in groups.values():
        place = len(told)
        told.append(group[0] if len(group) == 1 else averaged_row(group))
        if len(group) > 1:
            told += group
            under |= dict.fromkeys(range(place + 1, len(told)), place)
    return Folded(told, under)


def averaged_row(rows: Sequence[Row]) -> Row:
    """The mean of an encoder's rows."""
    found = {column.key: mean_estimate(rows, column.key) for column in METRICS}
    counts = {row.count for row in rows}
    return replace(
        rows[0],
        values={key: estimate for key, estimate in found.items() if estimate is not None},
        seed=f"mean of {len(rows)} seeds",
        count=counts.pop() if len(counts) == 1 else None,
        unusable=tuple(dict.fromkeys(why for row in rows for why in row.unusable)),
    )
