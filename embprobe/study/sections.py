"""The page's parts that are words, tables and charts."""

from collections.abc import Sequence

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.table import METRIC, METRICS, significant
from embprobe.page import html
from embprobe.page.charts import bars
from embprobe.page.figures import Figures
from embprobe.page.forest import Forest, forest_figure
from embprobe.page.html import Cell, markup
from embprobe.store import Json
from embprobe.study import cautions, judging, overview
from embprobe.study.facts import source_name
from embprobe.study.gallery import Gallery
from embprobe.study.headline import headline
from embprobe.study.judging import JudgeReport
from embprobe.study.reading import Study
from embprobe.study.seeds import averaged_rows
from embprobe.study.table import Table, csv_text, half_width


def lead(study: Study) -> str:
    """The data sets that rows were measured against."""
    compared = {e.reference.artefact: e for e in (*study.final, *study.foreign) or study.of_decoders}
    words = []
    for images, evaluation in compared.items():
        size, split = images.metrics["size"], evaluation.held_out
        side = size if isinstance(size, int) else "×".join(map(str, size))
        counts = images.metrics.get("splits") or {}
        held = f", held out: the {counts.get(split, '?')} of {split}" if split else ""
        name = study.aliases.get(images.fingerprint) or source_name(images)
        words.append(f"{name}: {images.metrics['count']} images of {side} px{held}")
    return html.text(f"{'; '.join(words)}." if words else "")


def first_screen(
    study: Study, judged: Sequence[JudgeReport], reading: JudgeReport, gallery: Gallery, figures: Figures
) -> str:
    """One sentence and one picture, samples of each encoder beneath, then what can't be concluded; the rest is folded."""
    told, found = headline(judged, reading), cautions.cautions(study, judged)
    content = ""
    if told is not None:
        content = f'<p class="headline">{markup(told.sentence)}</p>'
        flags = f"{told.judge.caption}{f'; rows {told.how}' if told.how else ''}"
        content += f'<p class="soft">{markup(flags)}.{_limits(found)}</p>'
        plot, drawn = overview.forest(study, told.judge, told.how), ""
        if plot is not None:
            drawn = forest_figure(plot)
            figures.drawing("forest", drawn)
            drawn += html.text(legend(plot))
        content += html.pair(drawn, gallery.strips(told.judge.name, told.how))
    content += in_figures(judged, reading)
    doubts = html.heading("What can't be concluded") + html.bullets(found)
    return content + (f'<div id="limits">{doubts}</div>' if found else "")


def _limits(found: Sequence[str]) -> str:
    """The way to what can't be concluded."""
    return f' <a href="#limits">What can&#x27;t be concluded ({len(found)})</a>' if found else ""


def legend(plot: Forest) -> str:
    """How the picture is to be read."""
    worst = f"left: {plot.worst}"
    if plot.worst == overview.GAUSSIAN:
        of_whom = (
            ", of the encoder whose score worst; each one's own are in the table" if len(plot.encoders) > 1 else ""
        )
        worst += f", images drawn without any learning{of_whom}"
    told = [
        f"Every figure on the way from worst ({worst}) to real held-out images (right); whiskers: 95 % intervals; arrows: beyond "
        "the scale."
    ]
    if any(row.difference for row in plot.rows):
        told.append(
            "A sign before the difference: that one is ahead of the next best by more than chance, corrected for all "
            "comparisons; ≈: can't be told."
        )
    told += ["Grey and hollow: controls, which learned nothing."] if plot.controls else []
    return " ".join(told)


def in_figures(judged: Sequence[JudgeReport], reading: JudgeReport) -> str:
    """Who wins where and by how much, with every judge."""
    content = ""
    for heading, sentences in judging.answers(judged, reading):
        content += html.heading(heading)
        content += "".join(f"<p><strong>{markup(s.subject)}</strong> {markup(s.rest)}</p>" for s in sentences)
    if not content:
        return ""
    content = html.text(judging.family_words(judged, reading)) + content
    return html.folded("In figures: who leads in what, and by how much", f'<div class="answer">{content}</div>')


def comparison(judged: Sequence[JudgeReport], reading: JudgeReport) -> str:
    """A table for each judge, one of the embeddings, every difference, and how the figures were taken."""
    content = ""
    for judge in judged:
        content += averaged_table(judge)
    content += averaged_table(reading)
    if not content:
        return ""
    several = any(averaged_rows(j.rows).under for j in judged)
    content += html.text(
        "± is half of a 95 % interval over images. Bold: ahead of every other row drawn the same way by more than chance, as "
        "corrected; nothing is bold where nobody is. Below the line: floors, real images and what the decoder makes of them, "
        "each in the place of samples."
        + (
            " Of several seeds a row is the mean, each training counting alike; its ± is of the choice of images, or by "
            "Student's t over the trainings where these vary more than that explains. The button before it opens each seed."
            if several
            else ""
        )
    )
    parts = {j.name: j.rows for j in (*judged, reading) if j.rows or j in judged}
    content += html.download("Download all figures as CSV", "table.csv", csv_text(parts))
    content += html.folded("All differences", "".join(difference_table(j) for j in (*judged, reading)))
    return content + html.folded("How the figures were taken", protocol(judged))


def averaged_table(judge: JudgeReport) -> str:
    """A row for each encoder and way of drawing, each seed folded under it."""
    folded = averaged_rows(judge.rows)
    table = Table(folded.rows, judge.leaders)
    if not table.rows:
        return ""
    return html.table(table.headers, table.cells, caption=judge.caption, floors=table.floors, under=folded.under)


def difference_table(judge: JudgeReport) -> str:
    """Every pair of rows drawn the same way, in every figure."""
    rows = []
    for how, differences in judge.differences.items():
        for d in differences:
            ends = f"[{significant(d.low)}, {significant(d.high)}]"
            better = (d.first if d.first_better else d.second) if d.significant else "can't be told"
            better = better if d.column.higher is not None or not d.significant else "differ"
            better = "not usable yet" if d.barred else better
            size = Cell(significant(d.value), best=d.significant, sort=d.value)
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
            content += html.text("Of each class asked for (rows), the % that is judged as each class (columns).")
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
        lines.append([Cell(name), *cells])
    warning = "; ".join(f"{names[i]} and {names[j]} look swapped" for i, j in sorted(swapped))
    caption = f"{label}. {judge.caption}"
    drawn = html.table(["asked ╲ judged", *names], lines, caption=caption, sortable=False, kind="heat")
    return f"<div>{drawn}{html.text(f'⚠ {warning}.' if warning else '', 'swapped')}</div>"


def class_lines(label: str, report: Json) -> list[tuple[str, str, Json]]:
    return [(label, name, facts) for name, facts in (report.get("per_class") or {}).items()]


def _class_line(label: str, name: str, facts: Json, columns: Sequence[str]) -> list[Cell]:
    return [
        Cell(name),
        Cell(label),
        Cell(str(facts["count"]), sort=facts["count"]),
        *(_floored(facts.get(k)) for k in columns),
    ]


# ---- factors


def factors(study: Study, figures: Figures) -> str:
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
            figures.drawing(f"factors-{view}", chart)
            charts += chart
    words = "How much of each factor a linear map reads, not how much is kept: what needs more than a linear map reads as lost."
    return html.text(words) + html.row(charts) if charts else ""


# ---- cells


def _floored(json: Json) -> Cell:
    if not json or json.get("value") is None:
        return Cell("–")
    estimate = Estimate.of(json)
    floor = "" if estimate.floor is None else f" ({significant(estimate.floor.value)})"
    return Cell(significant(estimate.value), f"{half_width(estimate)}{floor}".strip(), sort=estimate.value)


def _words(value: Json) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k} {_words(v)}" for k, v in value.items())
    return ", ".join(map(_words, value)) if isinstance(value, list) else str(value)
