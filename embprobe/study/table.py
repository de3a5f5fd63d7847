"""Tables of a study: rows as cells with who is ahead in each comparison marked, and the same as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from embprobe.console import visible
from embprobe.metrics.table import METRICS, Metric
from embprobe.page.html import Cell
from embprobe.store import Json
from embprobe.study.rows import Row

FORMULA = ("=", "+", "-", "@")  # a spreadsheet would run it


class Table:
    """Rows as cells, with the columns that some row fills and who is ahead of all drawn alike marked."""

    def __init__(self, rows: Sequence[Row], leaders: Mapping[tuple[str, str], str] | None = None) -> None:
        self.rows, self.leaders = list(rows), leaders or {}
        self.columns = [c for c in METRICS if any(c.key in row.values for row in rows)]
        self.counted = any(r.count is not None for r in rows)
        self.timed = any(r.epochs is not None for r in rows)

    @property
    def headers(self) -> list[str]:
        told = [*(["epochs"] if self.timed else []), *(["n"] if self.counted else [])]
        return ["encoder", *told, *(c.header for c in self.columns)]

    @property
    def before(self) -> int:
        """How many columns stand before the figures."""
        return 1 + self.timed + self.counted

    @cached_property
    def cells(self) -> list[list[Cell]]:
        """Every cell of every row."""
        lines = []
        for row in self.rows:
            flag = " ⚠ judged by itself" if row.probed else ""
            count = Cell("" if row.count is None else str(row.count), sort=row.count)
            epochs = Cell("" if row.epochs is None else f"{row.epochs:.3g}", sort=row.epochs)
            line = [Cell(row.label, flag), *([epochs] if self.timed else []), *([count] if self.counted else [])]
            lines.append(line + [self.cell(row, column) for column in self.columns])
        return lines

    def cell(self, row: Row, column: Metric) -> Cell:
        """A figure, half the width of its interval, and whether it is the best."""
        figure = row.values.get(column.key)
        if figure is None:
            return Cell("–")
        best = not row.is_floor and self.leaders.get((row.how, column.key)) == row.encoder
        small = half_width(column, figure.ends) + ("" if figure.reliable else " ⚠")
        return Cell(column.text(figure.value), small.strip(), best, sort=figure.value)

    @property
    def floors(self) -> list[int]:
        """Places of the rows that are references, not results."""
        return [i for i, r in enumerate(self.rows) if r.is_floor]

    @property
    def plain(self) -> list[list[str]]:
        """The cells as text, for a terminal."""
        return [[f"{c.text} {c.small}".strip() for c in row] for row in self.cells]


def half_width(column: Metric, ends: tuple[float, float] | None) -> str:
    """±, with a digit more where it would read as 0."""
    if ends is None:
        return ""
    half = (ends[1] - ends[0]) / 2
    wide = replace(column, digits=column.digits + 1) if 0 < half < 0.5 * 10.0**-column.digits else column
    return f"±{wide.text(half)}"


def merged(rows: Sequence[Row], embeddings: Sequence[Row]) -> list[Row]:
    """Rows of samples with what readers find in their embeddings; embeddings without samples come before the floors."""
    readings = {r.encoder: r for r in embeddings}
    drawn = [
        replace(r, values={**r.values, **readings[r.encoder].values}) if r.encoder in readings else r
        for r in rows
        if not r.is_floor
    ]
    alone = [r for r in embeddings if r.encoder not in {m.encoder for m in drawn}]
    return [*drawn, *alone, *(r for r in rows if r.is_floor)]


def csv_text(tables: Mapping[str, Sequence[Row]]) -> str:
    """The rows of each judge one below the other, with values and interval ends at full precision."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    columns = [c for c in METRICS if any(c.key in r.values for rows in tables.values() for r in rows)]
    facts = ["judge", "weak_judge", "judged_by_itself", "encoder", "n", "epochs", "kind", "floor", "drawn", "seed"]
    doubtful = {c.key for c in columns if any(not _reliable(r, c.key) for rows in tables.values() for r in rows)}
    ends = {c.key: ("", "_low", "_high", *(["_reliable"] if c.key in doubtful else [])) for c in columns}
    writer.writerow([*facts, *(f"{c.key}{end}" for c in columns for end in ends[c.key])])
    for judge, rows in tables.items():
        for row in rows:
            values: list[Json] = []
            for column in columns:
                figure = row.values.get(column.key)
                every = [None] * 4 if figure is None else [figure.value, figure.low, figure.high, figure.reliable]
                values += every[: len(ends[column.key])]
            facts_of_row = [row.weak, row.probed, harmless(row.label), row.count, row.epochs, row.kind, row.is_floor]
            writer.writerow([harmless(judge), *facts_of_row, harmless(row.how), harmless(row.seed), *values])
    return buffer.getvalue()


def _reliable(row: Row, key: str) -> bool:
    return key not in row.values or row.values[key].reliable


def harmless(text: str) -> str:
    """Text that a spreadsheet doesn't take for a formula."""
    text = visible(text)
    return f"'{text}" if text.startswith(FORMULA) else text
