"""The page's parts that are words, tables and charts."""

from collections.abc import Sequence

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.table import METRIC, METRICS, Metric
from embprobe.page import html
from embprobe.page.charts import bars, svg_file
from embprobe.page.html import Cell, markup
from embprobe.store import Artefact, Json
from embprobe.study import cautions, judging
from embprobe.study.judging import JudgeReport
from embprobe.study.reading import Study
from embprobe.study.table import Table, csv_text, half_width


def lead(study: Study) -> str:
    """What is compared."""
    compared = {e.reference.artefact: e for e in (*study.final, *study.foreign, *study.of_decoders)}
    words = []
    for images, evaluation in compared.items():
        size, split = images.metrics["size"], evaluation.held_out
        side = size if isinstance(size, int) else "×".join(map(str, size))
        counts = images.metrics.get("splits") or {}
        held = f", held out: the {counts.get(split, '?')} of {split}" if split else ""
        words.append(f"{images.metrics['count']} images of {side} px{held}")
    return html.text(f"{'; '.join(words)}." if words else "")


def answer_section(study: Study, judged: Sequence[JudgeReport], reading: JudgeReport) -> str:
    """Who wins where, by how much, and what can't be concluded."""
    answers = judging.answers(judged, reading)
    content = ""
    for heading, sentences in answers:
        content += html.heading(heading)
        content += "".join(f"<p><strong>{markup(s.subject)}</strong> {markup(s.rest)}</p>" for s in sentences)
    if content:
        content = html.text(judging.family_words(judged, reading)) + content
        content = f'<div class="answer">{content}</div>'
    found = cautions.cautions(study, judged)
    return content + (html.heading("What can't be concluded") + html.bullets(found) if found else "")


def comparison(judged: Sequence[JudgeReport], reading: JudgeReport) -> str:
    """A table for each judge, one of the embeddings, every difference, and how the figures were taken."""
    content = ""
    for judge in judged:
        if judge.rows:
            table = Table(judge.rows, judge.leaders)
            content += html.table(table.headers, table.cells, caption=judge.caption, floors=table.floors)
    if reading.rows:
        table = Table(reading.rows, reading.leaders)
        content += html.table(table.headers, table.cells, caption=reading.caption)
    content += html.text(
        "± is half of a 95 % interval over images. Bold: ahead of every other row drawn the same way by more than chance, as "
        "corrected; nothing is bold where nobody is. Below the line: floors, real images and what the decoder makes of them, "
        "each in the place of samples."
    )
    parts = {j.name: j.rows for j in (*judged, reading) if j.rows or j in judged}
    content += html.download("Download all figures as CSV", "table.csv", csv_text(parts))
    content += html.folded("All differences", "".join(difference_table(j) for j in (*judged, reading)))
    return content + html.folded("How the figures were taken", protocol(judged))


def difference_table(judge: JudgeReport) -> str:
    """Every pair of rows drawn the same way, in every figure."""
    rows = []
    for how, differences in judge.differences.items():
        for d in differences:
            ends = f"[{d.column.text(d.low)}, {d.column.text(d.high)}]"
            better = (d.first if d.first_better else d.second) if d.significant else "can't be told"
            better = better if d.column.higher is not None or not d.significant else "differ"
            better = "not usable yet" if d.barred else better
            size = Cell(d.column.text(d.value), best=d.significant, sort=d.value)
            who = [Cell(d.column.name), Cell(how), Cell(d.first), Cell(d.second)]
            chance = [Cell(ends, sort=d.low), Cell(cautions.pvalue(d.p), sort=d.p)]
            chance.append(Cell("–") if d.barred else Cell(cautions.pvalue(d.corrected), sort=d.corrected))
            rows.append([*who, size, *chance, Cell(better), Cell(d.method)])
    headers = [
        "figure",
        "drawn",
        "first",
        "second",
        "first − second",
        "95 % interval by itself",
        "p",
        "p corrected",
        "better",
    ]
    headers.append("interval over")
    return html.table(headers, rows, caption=judge.caption) if rows else ""


def protocol(judged: Sequence[JudgeReport]) -> str:
    """What every evaluation says of its own protocol, once."""
    facts = {str(k): v for j in judged for p in j.protocols for k, v in p.items()}
    words = "".join(f"<dt>{markup(k)}</dt><dd>{markup(_words(v))}</dd>" for k, v in facts.items())
    return f"<dl>{words}</dl>" if words else ""


# ---- classes


def classes(judged: Sequence[JudgeReport]) -> str:
    """Asked against judged class, and each class's own figures."""
    content = ""
    for judge in judged:
        tables, rows = "", []
        for label, report in zip(judge.labels, judge.reports, strict=True):
            tables += confusion_table(label, report, judge)
            rows += class_lines(label, report)
        if tables:
            content += html.text(
                "Of each class asked for (rows), the % that is judged as each class (columns, by number)."
            )
            content += html.row(tables, large=True)
        columns = [m.key for m in METRICS if m.per_class and any(m.key in facts for _, _, facts in rows)]
        if columns:
            lines = [_class_line(label, name, facts, columns) for label, name, facts in rows]
            headers = ["class", "encoder", "n", *(METRIC[k].header for k in columns)]
            table = html.table(
                headers, lines, caption=f"Each class against its own real images; floor in brackets. {judge.caption}"
            )
            content += html.folded(f"Figures per class ({len(lines)} rows)", table, is_open=len(lines) <= 24)
    return content


def confusion_table(label: str, report: Json, judge: JudgeReport) -> str:
    """Shares of each asked class by judged class; swapped pairs are ringed and named."""
    table, names = report.get("confusion"), report.get("classes")
    if not table or not names:
        return ""
    swapped = {(i, j) for i, j in report.get("swapped") or []}
    ringed = swapped | {(j, i) for i, j in swapped}
    lines = []
    for i, (name, counts) in enumerate(zip(names, table, strict=True)):
        total = sum(counts)
        shares = [c / total if total else 0.0 for c in counts]
        cells = [Cell(f"{100 * s:.0f}", shade=s, ringed=(i, j) in ringed) for j, s in enumerate(shares)]
        lines.append([Cell(f"{i + 1} {name}"), *cells])
    warning = "; ".join(f"{names[i]} and {names[j]} look swapped" for i, j in sorted(swapped))
    caption = f"{label}. {judge.caption}"
    headers = ["asked ╲ judged", *(str(i + 1) for i in range(len(names)))]
    drawn = html.table(headers, lines, caption=caption, sortable=False, kind="heat")
    return f"<div>{drawn}{html.text(f'⚠ {warning}.' if warning else '', 'swapped')}</div>"


def class_lines(label: str, report: Json) -> list[tuple[str, str, Json]]:
    return [(label, name, facts) for name, facts in (report.get("per_class") or {}).items()]


def _class_line(label: str, name: str, facts: Json, columns: Sequence[str]) -> list[Cell]:
    return [
        Cell(name),
        Cell(label),
        Cell(str(facts["count"]), sort=facts["count"]),
        *(_floored(METRIC[k], facts.get(k)) for k in columns),
    ]


# ---- factors


def factors(study: Study, out: Artefact) -> str:
    """Bars: what a linear reader finds of each planted factor, pooled and on the grid."""
    charts = ""
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
            charts += chart
    words = "How much of each factor a linear map reads, not how much is kept: what needs more than a linear map reads as lost."
    return html.text(words) + html.row(charts) if charts else ""


# ---- cells


def _floored(column: Metric, json: Json) -> Cell:
    if not json or json.get("value") is None:
        return Cell("–")
    estimate = Estimate.of(json)
    floor = "" if estimate.floor is None else f" ({column.text(estimate.floor.value)})"
    return Cell(column.text(estimate.value), f"{half_width(column, estimate.ends)}{floor}".strip(), sort=estimate.value)


def _words(value: Json) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_words(v)}" for k, v in value.items())
    return ", ".join(map(_words, value)) if isinstance(value, list) else str(value)
