"""Tables of a study: rows as cells with who is ahead in each comparison marked, and the same as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from embprobe.console import visible
from embprobe.metrics.estimate import Estimate
from embprobe.metrics.table import METRIC, METRICS, Metric, significant
from embprobe.page.html import Cell
from embprobe.store import Json
from embprobe.study.rows import Row

TERMINAL, NAME = 98, 26  # characters of a line, and of a name in it
SHORT = ("fd", "kid", "precision", "recall", "score", "coverage", "asked_class", "linear", "latent_fd", "psnr")
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
        small = half_width(figure) + ("" if figure.reliable else " ⚠")
        return Cell(significant(figure.value), small.strip(), best, sort=figure.value)

    @property
    def floors(self) -> list[int]:
        """Places of the rows that are references, not results."""
        return [i for i, r in enumerate(self.rows) if r.is_floor]

    @property
    def plain(self) -> list[list[str]]:
        """The cells as text, for a terminal."""
        return [[f"{c.text} {c.small}".strip() for c in row] for row in self.cells]


def half_width(estimate: Estimate) -> str:
    """± half of the interval, in two digits, written as the value is."""
    if estimate.ends is None:
        return ""
    return f"±{significant((estimate.ends[1] - estimate.ends[0]) / 2, 2, like=estimate.value)}"


def short_table(rows: Sequence[Row]) -> dict[str, Json]:
    """The columns that tell most, as many as fit into a terminal: headers and rows as text."""
    headers, lines = ["encoder"], [[shortened(row.label)] for row in rows]
    for column in (METRIC[key] for key in SHORT if any(key in row.values for row in rows)):
        cells = [_short_text(row.values.get(column.key)) for row in rows]
        widths = [max(map(len, cell)) + 2 for cell in zip(headers, *lines, strict=True)]
        if sum(widths) + max(map(len, [column.header, *cells])) <= TERMINAL:
            headers.append(column.header)
            lines = [[*line, cell] for line, cell in zip(lines, cells, strict=True)]
    return {"headers": headers, "rows": lines}


def _short_text(estimate: Estimate | None) -> str:
    """A figure in three digits ± one."""
    if estimate is None:
        return "–"
    half = 0.0 if estimate.ends is None else (estimate.ends[1] - estimate.ends[0]) / 2
    return significant(estimate.value, 3) + (f" ±{significant(half, 1, like=estimate.value)}" if half else "")


def shortened(name: str) -> str:
    """A name that leaves room for figures beside it."""
    return name if len(name) <= NAME else f"{name[: NAME - 1]}…"


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
