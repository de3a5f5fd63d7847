"""Report: one self-contained page that compares encoders, opening on the answer, with all that it rests on."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from embprobe.errors import UserError
from embprobe.page.figures import can_pdf
from embprobe.stage import Make, Stage, option
from embprobe.store import Artefact, Json, Store

if TYPE_CHECKING:
    from embprobe.study import Study
    from embprobe.study.curves import Course
    from embprobe.study.judging import JudgeReport
    from embprobe.study.paper import PublishedTable
    from embprobe.study.rows import Row


@dataclass(frozen=True, kw_only=True)
class Report(Stage):
    """Write one HTML page (and its PNG, SVG, PDF, CSV parts) from evaluations, probes and whatever they were made from."""

    version = 9

    artefacts: tuple[Artefact, ...] = option("evaluate and probe artefacts (others add their part)", positional=True)
    called: tuple[str, ...] = option(
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
    pdf: bool = option("also write every figure as PDF (needs the extra `pdf`)", False, later=True)
    names: tuple[str, ...] = option("fingerprint and alias of what has one", (), derived=True)
    device: str = option("taken as by every stage; a report needs none", "auto", runtime=True)

    def validate(self) -> None:
        if not self.artefacts:
            raise UserError("report needs artefacts: `embprobe report A…`, evaluations and probes first of all")
        if self.pdf and not can_pdf():
            raise UserError("--pdf needs svglib; install it with `pip install 'embprobe[pdf]'`, or leave --pdf out")
        if self.called and len(set(self.called)) != len(self.artefacts):
            raise UserError(
                f"--called has {len(self.called)} for {len(self.artefacts)} artefacts; give each one of its own"
            )

    def prepare(self, make: Make, *, download: bool) -> Self:
        """With the names of all that is behind the page: a page of other names is another page."""
        behind = {b for a in self.artefacts for b in a.lineage()}
        named = sorted((name, a) for root in {b.root for b in behind} for name, a in Store(root).names() if a in behind)
        first = {a.fingerprint: name for name, a in reversed(named)}
        return replace(self, names=tuple(sorted(f"{fingerprint} {name}" for fingerprint, name in first.items())))

    def check(self) -> None:
        if not any(a.stage in ("evaluate", "probe", "predict") for a in self.artefacts):
            raise UserError(
                "report needs at least one evaluate or probe artefact, or one of predict; `embprobe ls` lists what is there"
            )

    def run(self, out: Artefact) -> None:
        from embprobe.page import html
        from embprobe.page.figures import Figures
        from embprobe.page.html import Section
        from embprobe.stages import STAGES
        from embprobe.study import (
            Study,
            bibtex,
            budget,
            copying,
            curves,
            foreseeing,
            judging,
            latex,
            moments,
            paper,
            prompts,
            provenance,
            scaling,
            sections,
            seeing,
            training,
        )
        from embprobe.study.commands import Script
        from embprobe.study.gallery import Gallery

        study = Study(self.artefacts, self.aliases, self.called)
        judged, reading = judging.compared(study)
        shown, first = moments.moments_of(study, self.epochs), judged[0]
        figures = Figures(out, pdf=self.pdf)
        gallery, names = Gallery(study, figures, shown), [j.name for j in judged]
        courses = curves.courses(study, names, self.fd_target)
        over_time = {name: moments.rows_over_training(study, shown, name) for name in names}
        published = paper.published_tables(study, shown) if self.published else []
        script = Script(provenance.in_order(study.all), self.aliases, STAGES)
        parts = [
            Section("The answer", sections.first_screen(study, judged, reading, gallery, figures)),
            Section("Comparison", sections.comparison(judged, reading)),
            Section("The published tables", paper.published_section(published)),
            Section("Curves over training", training.over_training(judged, courses, over_time, figures)),
            Section("What width, images and steps buy", scaling.what_scales(study, judged, figures)),
            Section("Samples", gallery.samples()),
            Section("Prompts", prompts.prompts_section(judged)),
            Section("Reconstructions by step", gallery.reconstructions()),
            Section("What the embeddings keep", sections.factors(study, figures)),
            Section("What the predictors foresee", foreseeing.what_is_foreseen(study, figures)),
            Section("What the encoders see", seeing.what_encoders_see(study, figures)),
            Section("Nearest training images", copying.copies_section(study, first, gallery)),
            Section("Classes", sections.classes(judged)),
            Section("Budget", budget.budget(study)),
            Section("Provenance", provenance.provenance(study, script.text(out))),
            Section("Whom to cite", bibtex.citations(study, judged)),
        ]
        write_csv(judged, reading, over_time, out)
        out.write_json("table.json", table_json(study, judged, reading, courses, over_time, published))
        if self.latex:
            out.write_bytes("tables.tex", latex.tables(judged, reading, over_time, published).encode())
        out.write_bytes("report.html", html.page(self.title, sections.lead(study), parts).encode())
        said = [str(s) for _, sentences in judging.answers(judged, reading) for s in sentences]
        out.note(page="report.html", systems=[r.label for r in first.rows if not r.is_floor], answer=said)

    @property
    def aliases(self) -> dict[str, str]:
        """The alias of each artefact that has one, by fingerprint."""
        return {fingerprint: alias for fingerprint, _, alias in (name.partition(" ") for name in self.names)}


def write_csv(
    judged: "list[JudgeReport]", reading: "JudgeReport", over_time: "dict[str, list[Row]]", out: Artefact
) -> None:
    """Every row at full precision, and every row over training where there are some."""
    from embprobe.study.table import csv_text

    tables = {j.name: j.rows for j in (*judged, reading) if j.rows or j in judged}
    out.write_bytes("table.csv", csv_text(tables).encode())
    if any(over_time.values()):
        out.write_bytes("over-training.csv", csv_text(over_time).encode())


def table_json(
    study: "Study",
    judged: "list[JudgeReport]",
    reading: "JudgeReport",
    courses: "dict[str, Course]",
    over_time: "dict[str, list[Row]]",
    published: "list[PublishedTable]",
) -> Json:
    """Everything the page says in figures, for machines; `headers`, `rows` and `curves` are the first judge's."""
    from embprobe.study import cautions, foreseeing, judging, scaling
    from embprobe.study.headline import headline
    from embprobe.study.seeds import averaged_rows
    from embprobe.study.table import Table, merged, short_table

    table = Table(merged(judged[0].rows, reading.rows), judged[0].leaders)
    told, averaged = headline(judged, reading), averaged_rows(judged[0].rows).shown
    answers = judging.answers(judged, reading)
    return {
        "headers": table.headers,
        "rows": table.plain,
        "short": short_table(merged(averaged, reading.rows)),
        "headline": None if told is None else told.sentence,
        "answer": [{"about": heading, "said": [str(s) for s in said]} for heading, said in answers],
        "cautions": cautions.cautions(study, judged),
        "judges": [{"name": j.name, "accuracy": j.accuracy, "weak": j.weak, "probed": j.probed} for j in judged],
        "values": {j.name: [r.json() for r in j.rows] for j in judged},
        "embeddings": [r.json() for r in reading.rows],
        "predictions": foreseeing.json_of(study),
        "scaling": scaling.surfaces_json(study, judged),
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
