"""Report: one self-contained page that compares encoders, opening on the answer, with all that it rests on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from embprobe.errors import UserError
from embprobe.stage import Stage, option
from embprobe.store import Artefact, Json

if TYPE_CHECKING:
    from embprobe.study import Study
    from embprobe.study.curves import Course
    from embprobe.study.judging import JudgeReport
    from embprobe.study.paper import PublishedTable
    from embprobe.study.rows import Row


@dataclass(frozen=True, kw_only=True)
class Report(Stage):
    """Write one HTML page (and its PNG, SVG, CSV parts) from evaluations, probes and whatever they were made from."""

    version = 4

    artefacts: tuple[Artefact, ...] = option("evaluate and probe artefacts (others add their part)", positional=True)
    names: tuple[str, ...] = option(
        "what rows of images from elsewhere are called, in the order of the artefacts; else what their files are",
        (),
        later=True,
    )
    title: str = option("the page's heading", "What the encoders keep")
    fd_target: float | None = option(
        "epochs until the first judge's FD falls to this are told; else to the worst last FD of the rows", None, above=0
    )
    epochs: tuple[float, ...] = option(
        "tables and samples after these epochs too, with commas between, where as many were drawn then as at the end; left "
        "out: those that diffuse --keep-epochs kept",
        (),
        above=0,
        later=True,
    )
    published: bool = option(
        "also the tables of the published comparison, and its values beside those found here", False, later=True
    )
    latex: bool = option("also write the tables as tables.tex, for booktabs", False)
    device: str = option("taken as by every stage; a report needs none", "auto", runtime=True)

    def validate(self) -> None:
        if not self.artefacts:
            raise UserError("report needs artefacts: `embprobe report A…`, evaluations and probes first of all")

        if self.names and len(set(self.names)) != len(self.artefacts):
            raise UserError(
                f"--names has {len(self.names)} for {len(self.artefacts)} artefacts; give each one of its own"
            )

    def check(self) -> None:
        if not any(a.stage in ("evaluate", "probe") for a in self.artefacts):
            raise UserError("report needs at least one evaluate or probe artefact; `embprobe ls` lists what is there")

    def run(self, out: Artefact) -> None:
        from embprobe.page import html
        from embprobe.page.html import Section
        from embprobe.study import (
            Study,
            copying,
            curves,
            judging,
            latex,
            moments,
            paper,
            provenance,
            sections,
            seeing,
            training,
        )
        from embprobe.study.gallery import Gallery
        from embprobe.study.table import csv_text

        study = Study(self.artefacts, self.names)
        judged, reading = judging.compared(study)
        shown, first = moments.moments_of(study, self.epochs), judged[0]
        gallery, names = Gallery(study, out, shown), [j.name for j in judged]
        courses = curves.courses(study, names, self.fd_target)
        over_time = {name: moments.rows_over_training(study, shown, name) for name in names}
        published = paper.published_tables(study, shown) if self.published else []
        parts = [
            Section("The answer", sections.answer_section(study, judged, reading)),
            Section("Comparison", sections.comparison(judged, reading)),
            Section("The published tables", paper.published_section(published)),
            Section("Curves over training", training.over_training(judged, courses, over_time, out)),
            Section("Samples", gallery.samples()),
            Section("Reconstructions by step", gallery.reconstructions()),
            Section("What the embeddings keep", sections.factors(study, out)),
            Section("What the encoders see", seeing.what_encoders_see(study, out)),
            Section("Nearest training images", copying.copies_table(study, first) + gallery.neighbours()),
            Section("Classes", sections.classes(judged)),
            Section("Provenance", provenance.provenance(study)),
        ]
        tables = {j.name: j.rows for j in (*judged, reading) if j.rows or j in judged}
        out.write_bytes("table.csv", csv_text(tables).encode())
        if any(over_time.values()):
            out.write_bytes("over-training.csv", csv_text(over_time).encode())
        out.write_json("table.json", table_json(study, judged, reading, courses, over_time, published))
        if self.latex:
            out.write_bytes("tables.tex", latex.tables(judged, reading, over_time, published).encode())
        out.write_bytes("report.html", html.page(self.title, sections.lead(study), parts).encode())
        said = [str(s) for _, sentences in judging.answers(judged, reading) for s in sentences]
        out.note(page="report.html", systems=[r.label for r in first.rows if not r.is_floor], answer=said)


def table_json(
    study: "Study",
    judged: "list[JudgeReport]",
    reading: "JudgeReport",
    courses: "dict[str, Course]",
    over_time: "dict[str, list[Row]]",
    published: "list[PublishedTable]",
) -> Json:
    """Everything the page says in figures, for machines; `headers`, `rows` and `curves` are the first judge's."""
    from embprobe.study import cautions, judging
    from embprobe.study.table import Table, merged

    table = Table(merged(judged[0].rows, reading.rows), judged[0].leaders)
    answers = judging.answers(judged, reading)
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
        "curves": courses[judged[0].name].json() | {"judges": {name: c.json() for name, c in courses.items()}},
        "over_training": {name: [r.json() for r in rows] for name, rows in over_time.items()},
        "published": [table.json() for table in published],
    }
