"""Report: one self-contained page that compares encoders, opening on the answer, with all that it rests on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from embprobe.errors import UserError
from embprobe.stage import Stage, option
from embprobe.store import Artefact, Json

if TYPE_CHECKING:
    from embprobe.study import Study
    from embprobe.study.curves import Point
    from embprobe.study.judging import JudgeReport


@dataclass(frozen=True, kw_only=True)
class Report(Stage):
    """Write one HTML page (and its PNG, SVG, CSV parts) from evaluations, probes and whatever they were made from."""

    version = 4

    artefacts: tuple[Artefact, ...] = option("evaluate and probe artefacts (others add their part)", positional=True)
    title: str = option("the page's heading", "What the encoders keep")
    fd_target: float | None = option(
        "epochs until FD falls to this are told; else to the worst last FD of the rows", None, above=0
    )
    latex: bool = option("also write the tables as tables.tex, for booktabs", False)
    device: str = option("taken as by every stage; a report needs none", "auto", runtime=True)

    def validate(self) -> None:
        if not self.artefacts:
            raise UserError("report needs artefacts: `embprobe report A…`, evaluations and probes first of all")

    def check(self) -> None:
        if not any(a.stage in ("evaluate", "probe") for a in self.artefacts):
            raise UserError("report needs at least one evaluate or probe artefact; `embprobe ls` lists what is there")

    def run(self, out: Artefact) -> None:
        from embprobe.metrics.table import METRICS
        from embprobe.page import html
        from embprobe.page.html import Section
        from embprobe.study import Study, copying, curves, judging, latex, provenance, sections
        from embprobe.study.gallery import Gallery
        from embprobe.study.table import csv_text

        study = Study(self.artefacts)
        judged, reading = judging.compared(study)
        gallery, first = Gallery(study, out), judged[0]
        series = {key: curves.points(study, first.name, key) for key in [m.key for m in METRICS if m.over_training]}
        areas = curves.curve_summary(series, self.fd_target)
        parts = [
            Section("The answer", sections.answer_section(study, judged, reading)),
            Section("Comparison", sections.comparison(judged, reading)),
            Section(
                "Curves over training",
                sections.curve_charts(first, series, out) + sections.curve_table(first, series, areas),
            ),
            Section("Samples", gallery.samples()),
            Section("Reconstructions by step", gallery.reconstructions()),
            Section("What the embeddings keep", sections.factors(study, out)),
            Section("Nearest training images", copying.copies_table(study, first) + gallery.neighbours()),
            Section("Classes", sections.classes(judged)),
            Section("Provenance", provenance.provenance(study)),
        ]
        tables = {j.name: j.rows for j in (*judged, reading) if j.rows or j in judged}
        out.write_bytes("table.csv", csv_text(tables).encode())
        out.write_json("table.json", table_json(study, judged, reading, series, areas))
        if self.latex:
            out.write_bytes("tables.tex", latex.tables(judged, reading).encode())
        out.write_bytes("report.html", html.page(self.title, sections.lead(study), parts).encode())
        said = [str(s) for _, sentences in judging.answers(judged, reading) for s in sentences]
        out.note(page="report.html", systems=[r.label for r in first.rows if not r.is_floor], answer=said)


def table_json(
    study: "Study",
    judged: "list[JudgeReport]",
    reading: "JudgeReport",
    series: "dict[str, dict[str, list[Point]]]",
    areas: Json,
) -> Json:
    """Everything the page says in figures, for machines; `headers` and `rows` are the first judge's table as text."""
    from embprobe.study import cautions, judging
    from embprobe.study.table import Table, merged

    table = Table(merged(judged[0].rows, reading.rows), judged[0].leaders)
    answers = judging.answers(judged, reading)
    points = {
        key: {
            name: [[p.epochs, p.estimate.value, p.estimate.low, p.estimate.high, p.count] for p in line]
            for name, line in lines.items()
        }
        for key, lines in series.items()
    }
    return {
        "headers": table.headers,
        "rows": table.plain,
        "answer": [{"about": heading, "said": [str(s) for s in said]} for heading, said in answers],
        "cautions": cautions.cautions(study, judged),
        "judges": [{"name": j.name, "accuracy": j.accuracy, "weak": j.weak, "probed": j.probed} for j in judged],
        "values": {j.name: [r.json() for r in j.rows] for j in judged},
        "embeddings": [r.json() for r in reading.rows],
        "differences": [
            {"judge": j.name, "drawn": how, **d.json()}
            for j in (*judged, reading)
            for how, found in j.differences.items()
            for d in found
        ],
        "curves": {**areas, "points": points},
    }
