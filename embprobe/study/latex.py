"""The tables of a study in LaTeX, for booktabs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from embprobe.console import visible
from embprobe.metrics.table import significant
from embprobe.page.html import Cell
from embprobe.study.cautions import pvalue
from embprobe.study.judging import JudgeReport
from embprobe.study.paper import PublishedTable
from embprobe.study.rows import Row
from embprobe.study.table import Table

WIDE = 6  # columns of figures beside each other
SIGNS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': r"\textquotedbl{}", "∞": r"$\infty$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "²": r"$^2$", "±": r"$\pm$",
    "÷": r"$\div$", "−": "$-$", "–": "--", "⚠": r"$\dagger$", "…": r"\ldots{}", "[": "{[}", "*": "{*}", "\n": " ",
}  # fmt: skip
INTERVALS = "± is half of a 95 % interval over images; it leaves out the spread over training seeds."


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(SIGNS.get(c, c) for c in visible(text))


def tables(
    judged: Sequence[JudgeReport],
    reading: JudgeReport,
    over_time: Mapping[str, Sequence[Row]],
    published: Sequence[PublishedTable],
) -> str:
    """Figures with ± and the best in bold, floors, differences, rows over training, published tables: float after float."""
    parts = ["% \\usepackage{booktabs}", *(published_float(table) for table in published)]
    for judge in judged:
        said = f"{judge.caption}. {INTERVALS} Bold: ahead of every other row drawn the same way, corrected; italic: floors."
        parts += floats(judge, said)
        parts += difference_floats(judge)
        then = replace(judge, rows=over_time.get(judge.name, ()), differences={})
        parts += floats(then, f"After the epochs that were kept, and at the end. {judge.caption}. {INTERVALS}")
    parts += floats(reading, f"{reading.caption}. {INTERVALS}") + difference_floats(reading)
    return "\n\n".join(parts) + "\n"


def floats(judge: JudgeReport, caption: str) -> list[str]:
    """A table for every few columns."""
    parts = []
    whole = Table(judge.rows)
    for start in range(0, len(whole.columns), WIDE):
        keys = [c.key for c in whole.columns[start : start + WIDE]]
        shown = [r for r in judge.rows if any(k in r.values for k in keys)]
        table = Table(shown, judge.leaders)
        places = [i for i, c in enumerate(table.columns) if c.key in keys]
        first = table.before
        lines = [" & ".join(escaped(h) for h in table.headers[:first] + [table.columns[i].header for i in places])]
        lines[0] += r" \\ \midrule"
        for number, cells in enumerate(table.cells):
            rule = r"\midrule " if number in table.floors and number - 1 not in table.floors and number else ""
            words = [_cell(cells[i], number in table.floors) for i in [*range(first), *(first + i for i in places)]]
            lines.append(f"{rule}{' & '.join(words)} \\\\")
        parts.append(_float("l" + "r" * (first - 1 + len(places)), lines, caption))
    return parts


def published_float(table: PublishedTable) -> str:
    """A table of the published comparison."""
    lines = [rf"{' & '.join(escaped(h) for h in table.headers)} \\ \midrule"]
    lines += [f"{' & '.join(_cell(cell, False) for cell in row)} \\\\" for row in table.rows]
    words = len(table.headers) - table.figures
    return _float("l" * words + "r" * table.figures, lines, table.title)


def difference_floats(judge: JudgeReport) -> list[str]:
    """Every difference between rows drawn the same way."""
    lines = [r"drawn & figure & first & second & first $-$ second & 95\,\% interval & $p$ corrected & over \\ \midrule"]
    for how, differences in judge.differences.items():
        for d in differences:
            ends = f"[{significant(d.low)}, {significant(d.high)}]"
            size = escaped(significant(d.value))
            words = [how, d.column.name, d.first, d.second]
            bold = rf"\textbf{{{size}}}" if d.significant else size
            chance = "--" if d.barred else escaped(pvalue(d.corrected))
            lines.append(
                f"{' & '.join(map(escaped, words))} & {bold} & {escaped(ends)} & {chance} & {escaped(d.method)} \\\\"
            )
    if len(lines) == 1:
        return []
    said = "Differences, each with its own interval; bold where p, corrected for all comparisons (Holm), is below 0.05."
    return [_float("llllrrrl", lines, f"{judge.caption}. {said}")]


def _cell(cell: Cell, floor: bool) -> str:
    small = f" {{\\small {escaped(cell.small)}}}" if cell.small else ""
    text = escaped(cell.text)
    if cell.best:
        return rf"\textbf{{{text}}}{small}"
    return (rf"\textit{{{text}}}" if floor else text) + small


def _float(columns: str, lines: Sequence[str], caption: str) -> str:
    body = "\n".join(lines)
    return (
        f"\\begin{{table}}\n\\centering\\footnotesize\n\\caption{{{escaped(caption)}}}\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n"
        f"{body}\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}"
    )
