"""The page's part over training: every judge's curves, their areas, and tables at the epochs that were kept."""

from collections.abc import Mapping, Sequence

from embprobe.metrics.table import METRIC, significant
from embprobe.page import html
from embprobe.page.charts import curves
from embprobe.page.figures import Figures
from embprobe.page.html import Cell
from embprobe.store import Json
from embprobe.study.curves import Course
from embprobe.study.judging import JudgeReport
from embprobe.study.rows import Row
from embprobe.study.table import Table


def over_training(
    judged: Sequence[JudgeReport], courses: Mapping[str, Course], rows: Mapping[str, Sequence[Row]], figures: Figures
) -> str:
    """The first judge's part, then the others' to be opened."""
    content = ""
    for number, judge in enumerate(judged):
        course = courses[judge.name]
        part = curve_charts(judge, course, figures, f"{file_name(judge.name)}-" if number else "")
        part += curve_table(judge, course) + milestone_table(judge, rows.get(judge.name, ()))
        content += html.folded(f"Over training, judged by {judge.name}", part) if number else part
    return content


def file_name(words: str) -> str:
    """Words as a part of a file's name."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in words).strip("-")


def curve_charts(judge: JudgeReport, course: Course, figures: Figures, prefix: str = "") -> str:
    """A chart of each figure over training."""
    charts = ""
    for key, lines in course.series.items():
        drawn = {
            name: [(p.epochs, p.estimate.value, p.estimate.low, p.estimate.high) for p in line]
            for name, line in lines.items()
        }
        chart = curves(drawn, "epochs (images seen ÷ training images)", METRIC[key].name)
        if chart:
            figures.drawing(f"curve-{prefix}{key}", chart)
            charts += chart
    return (html.text(judge.caption) + html.row(charts, large=True)) if charts else ""


def curve_table(judge: JudgeReport, course: Course) -> str:
    """Areas and epochs until the target, and a word on points of different counts."""
    summary = course.summary
    if not summary["rows"]:
        return ""
    keys = [k for k, span in summary["spans"].items() if span]
    headers = ["encoder", *(f"mean {METRIC[k].header}" for k in keys)]
    headers += [f"epochs until FD ≤ {summary['target']:.1f}"] if summary["target"] is not None else []
    rows = []
    for name, mine in summary["rows"].items():
        line = [Cell(name), *(_number(mine.get(f"{k}_area")) for k in keys)]
        if summary["target"] is not None:
            line.append(_until(mine.get("epochs_until")))
        rows.append(line)
    words = "Mean over log epochs (trapezoid), over the range that all rows share; a line between milestones."
    counts = {p.count for lines in course.series.values() for line in lines.values() for p in line}
    if len(counts) > 1:
        words += (
            f" Points have {min(counts)} to {max(counts)} samples, and FD, precision and recall depend on that number."
        )
    return html.table(headers, rows, caption=f"Areas under the curves. {judge.caption}") + html.text(words)


def milestone_table(judge: JudgeReport, rows: Sequence[Row]) -> str:
    """Every figure after the epochs that were kept, and at the end."""
    table = Table(rows)
    caption = (
        f"After the epochs that were kept, and at the end; nothing is concluded from earlier ones. {judge.caption}"
    )
    return html.table(table.headers, table.cells, caption=caption) if rows else ""


def _until(epochs: float | None) -> Cell:
    return Cell("not reached") if epochs is None else Cell(f"{epochs:.2f}", sort=epochs)


def _number(value: Json) -> Cell:
    return Cell("–") if value is None else Cell(significant(value), sort=value)
