"""The page's parts that are words, tables and charts."""

from collections.abc import Sequence

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.table import METRIC, METRICS, Metric
from embprobe.page import html
from embprobe.page.charts import bars, curves, svg_file
from embprobe.page.html import Cell
from embprobe.store import Artefact, Json
from embprobe.study import judging
from embprobe.study.curves import Point
from embprobe.study.judging import JudgeReport
from embprobe.study.reading import SPACES, Study
from embprobe.study.rows import Row
from embprobe.study.table import Table, csv_text, half_width
from embprobe.study.verdict import METHODS


def lead(study: Study) -> str:
    """What is compared."""
    images = [a for a in study.all if a.stage == "ingest"]
    words = ", ".join(f"{a.metrics['count']} images of {a.metrics['size']} px" for a in images)
    return html.text(f"{words}." if words else "")


def answer_section(study: Study, judged: Sequence[JudgeReport], embeddings: Sequence[Row]) -> str:
    """Who wins where, by how much, and what can't be concluded."""
    from html import escape

    found = judging.answers(judged, embeddings)
    said = ""
    for heading, sentences in found:
        said += html.heading(heading)
        said += "".join(f"<p><strong>{escape(s.subject)}</strong> {escape(s.rest)}</p>" for s in sentences)
    if said:
        said = html.text("Square brackets: 95 % interval of the difference.") + said
        said = f'<div class="answer">{said}</div>'
    left = judging.cautions(study, judged)
    return said + (html.heading("What can't be concluded") + html.bullets(left) if left else "")


def comparison(judged: Sequence[JudgeReport], reading: JudgeReport) -> str:
    """A table for each judge, one of the embeddings, every difference, and how the figures were taken."""
    found = ""
    for judge in judged:
        if judge.rows:
            table = Table(judge.rows)
            found += html.table(table.headers, table.cells, caption=judge.caption, floors=table.floors)
    if reading.rows:
        table = Table(reading.rows)
        found += html.table(table.headers, table.cells, caption=reading.caption)
    found += html.text(
        "± is half of a 95 % interval over images. Bold: best of the rows drawn the same way. Below the line: floors, real "
        "held-out images and what the decoder makes of them, each in the place of samples."
    )
    parts = {j.name: j.rows for j in (*judged, reading) if j.rows or j in judged}
    found += html.download("Download all figures as CSV", "table.csv", csv_text(parts))
    found += html.folded("All differences", "".join(difference_table(j) for j in (*judged, reading)))
    return found + html.folded("How the figures were taken", protocol(judged))


def difference_table(judge: JudgeReport) -> str:
    """Every pair of rows drawn the same way, in every figure."""
    rows = []
    for how, found in judge.differences.items():
        for d in found:
            ends = f"[{d.column.text(d.low)}, {d.column.text(d.high)}]"
            told = (d.first if d.first_better else d.second) if d.told else "can't be told"
            told = told if d.column.higher is not None or not d.told else "differ"
            size = Cell(d.column.text(d.value), best=d.told, sort=d.value)
            rows.append([Cell(d.column.name), Cell(how), Cell(d.first), Cell(d.second), size, Cell(ends, sort=d.low), Cell(told),
                         Cell(METHODS[d.method])])  # fmt: skip
    headers = ["figure", "drawn", "first", "second", "first − second", "95 % interval", "better", "interval by"]
    return html.table(headers, rows, caption=judge.caption) if rows else ""


def protocol(judged: Sequence[JudgeReport]) -> str:
    """What every evaluation says of its own protocol, once."""
    from html import escape

    told = {str(k): v for j in judged for p in j.protocols for k, v in p.items()}
    words = "".join(f"<dt>{escape(k)}</dt><dd>{escape(_words(v))}</dd>" for k, v in told.items())
    return f"<dl>{words}</dl>" if words else ""


# ---- curves


def curve_charts(judge: JudgeReport, series: dict[str, dict[str, list[Point]]], out: Artefact) -> str:
    """A chart of each figure over training."""
    found = ""
    for key, lines in series.items():
        drawn = {
            name: [(p.epochs, p.estimate.value, p.estimate.low, p.estimate.high) for p in line]
            for name, line in lines.items()
        }
        chart = curves(drawn, "epochs (images seen ÷ training images)", METRIC[key].name)
        if chart:
            out.write_bytes(f"figures/curve-{key}.svg", svg_file(chart))
            found += chart
    return (html.text(judge.caption) + html.row(found, large=True)) if found else ""


def curve_table(judge: JudgeReport, series: dict[str, dict[str, list[Point]]], told: dict[str, Json]) -> str:
    """Areas and epochs until the target, and a word on points of different counts."""
    if not told["rows"]:
        return ""
    keys = [k for k, span in told["spans"].items() if span]
    headers = ["encoder", *(f"mean {METRIC[k].header}" for k in keys)]
    headers += [f"epochs until FD ≤ {told['target']:.1f}"] if told["target"] is not None else []
    rows = []
    for name, mine in told["rows"].items():
        line = [Cell(name), *(_number(METRIC[k], mine.get(f"{k}_area")) for k in keys)]
        if told["target"] is not None:
            until = mine.get("epochs_until")
            line.append(Cell("not reached") if until is None else Cell(f"{until:.2f}", sort=until))
        rows.append(line)
    words = "Mean over log epochs (trapezoid), over the range that all rows share; a line between milestones."
    counts = {p.count for lines in series.values() for line in lines.values() for p in line}
    if len(counts) > 1:
        words += (
            f" Points have {min(counts)} to {max(counts)} samples, and FD, precision and recall depend on that number."
        )
    return html.table(headers, rows, caption=f"Areas under the curves. {judge.caption}") + html.text(words)


# ---- classes


def classes(judged: Sequence[JudgeReport]) -> str:
    """Asked against judged class, and each class's own figures."""
    found = ""
    for judge in judged:
        tables, rows = "", []
        for label, told in zip(judge.labels, judge.reports, strict=True):
            tables += confusion_table(label, told, judge)
            rows += class_lines(label, told)
        if tables:
            found += html.text(
                "Of each class asked for (rows), the % that is judged as each class (columns, by number)."
            )
            found += html.row(tables, large=True)
        columns = [m.key for m in METRICS if m.per_class and any(m.key in told for _, _, told in rows)]
        if columns:
            lines = [_class_line(label, name, told, columns) for label, name, told in rows]
            headers = ["class", "encoder", "n", *(METRIC[k].header for k in columns)]
            table = html.table(
                headers, lines, caption=f"Each class against its own real images; floor in brackets. {judge.caption}"
            )
            found += html.folded(f"Figures per class ({len(lines)} rows)", table, is_open=len(lines) <= 24)
    return found


def confusion_table(label: str, told: Json, judge: JudgeReport) -> str:
    """Shares of each asked class by judged class; swapped pairs are ringed and named."""
    table, names = told.get("confusion"), told.get("classes")
    if not table or not names:
        return ""
    swapped = {(i, j) for i, j in told.get("swapped") or []}
    ringed = swapped | {(j, i) for i, j in swapped}
    lines = []
    for i, (name, counts) in enumerate(zip(names, table, strict=True)):
        total = sum(counts)
        shares = [c / total if total else 0.0 for c in counts]
        cells = [Cell(f"{100 * s:.0f}", shade=s, ringed=(i, j) in ringed) for j, s in enumerate(shares)]
        lines.append([Cell(f"{i + 1} {name}"), *cells])
    said = "; ".join(f"{names[i]} and {names[j]} look swapped" for i, j in sorted(swapped))
    caption = f"{label}. {judge.caption}"
    headers = ["asked ╲ judged", *(str(i + 1) for i in range(len(names)))]
    drawn = html.table(headers, lines, caption=caption, sortable=False, kind="heat")
    return f"<div>{drawn}{html.text(f'⚠ {said}.' if said else '', 'swapped')}</div>"


def class_lines(label: str, told: Json) -> list[tuple[str, str, Json]]:
    return [(label, name, facts) for name, facts in (told.get("per_class") or {}).items()]


def _class_line(label: str, name: str, told: Json, columns: Sequence[str]) -> list[Cell]:
    return [
        Cell(name),
        Cell(label),
        Cell(str(told["count"]), sort=told["count"]),
        *(_floored(METRIC[k], told.get(k)) for k in columns),
    ]


# ---- memorisation, factors


def copies_table(study: Study, judge: JudgeReport) -> str:
    """Whether samples lie nearer to training images than held-out images do, in each space."""
    rows = []
    for evaluation in study.final:
        for space, test in evaluation.copies.items():
            rows.append([Cell(study.name(evaluation.samples)), Cell(SPACES.get(space, space)), *_memory(test)])
    headers = [
        "encoder",
        "space",
        "p",
        "nearer to training",
        "expected",
        "copies",
        "95 % interval",
        "training",
        "held out",
    ]
    caption = f"Nearest training image against nearest held-out image. {judge.caption}"
    return html.table(headers, rows, caption=caption) if rows else ""


def _memory(told: Json) -> list[Cell]:
    def share(key: str) -> Cell:
        value = told.get(key)
        return Cell("–") if value is None else Cell(f"{value:.1%}", sort=value)

    p, low, high = (told.get(k) for k in ("p", "low", "high"))
    ends = Cell("–") if low is None or high is None else Cell(f"[{low:.1%}, {high:.1%}]", sort=low)
    counts = [Cell(str(told.get(k, "–")), sort=told.get(k)) for k in ("train", "held_out")]
    known = Cell("–") if p is None else Cell(judging.pvalue(p), best=p < 0.01, sort=p)
    copies = f"{told.get('copies', '–')} of {told.get('count', '–')}"
    return [known, share("nearer"), share("expected"), Cell(copies, sort=told.get("copies")), ends, *counts]


def factors(study: Study, out: Artefact) -> str:
    """Bars: what a linear reader finds of each planted factor, pooled and on the grid."""
    found = ""
    for view, words in (("grid", "the whole grid"), ("pooled", "the mean token")):
        groups: dict[str, dict[str, tuple[float, float | None, float | None]]] = {}
        for probing in study.probings:
            label = study.label(probing.embeddings)
            for name, factor in (probing.results.get("factors") or {}).items():
                kind = "accuracy" if factor["kind"] == "category" else "R²"
                if factor[view]["value"] is not None:  # of a factor that varies
                    estimate = Estimate.of(factor[view])
                    groups.setdefault(f"{name} ({kind})", {})[label] = (estimate.value, estimate.low, estimate.high)
        chart = bars(groups, f"read linearly from {words}")
        if chart:
            out.write_bytes(f"figures/factors-{view}.svg", svg_file(chart))
            found += chart
    return html.row(found)


# ---- cells


def _floored(column: Metric, told: Json) -> Cell:
    if not told or told.get("value") is None:
        return Cell("–")
    figure = Estimate.of(told)
    floor = "" if figure.floor is None else f" ({column.text(figure.floor)})"
    return Cell(column.text(figure.value), f"{half_width(column, figure.ends)}{floor}".strip(), sort=figure.value)


def _number(column: Metric, value: float | None) -> Cell:
    return Cell("–") if value is None else Cell(column.text(value), sort=value)


def _words(value: Json) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_words(v)}" for k, v in value.items())
    return ", ".join(map(_words, value)) if isinstance(value, list) else str(value)
