"""The published comparison's tables, from any page that has their figures, and its values beside those found here."""

from collections.abc import Sequence
from dataclasses import dataclass

from embprobe.encoders import names
from embprobe.metrics.table import significant
from embprobe.page import html
from embprobe.page.html import Cell
from embprobe.store import Json
from embprobe.study.facts import asked_name
from embprobe.study.moments import Moment
from embprobe.study.published import BY_CLASS, CLASS_COLUMNS, COLUMNS, ENCODERS, FIRST, UNCONDITIONAL
from embprobe.study.reading import Study
from embprobe.study.sources import FigureSource, is_inception, notes, sources
from embprobe.study.table import half_width
from embprobe.study.verdict import listed

NOTHING = Cell("–")
OWN = ("ResNet", "TV")  # columns of the data set's classifier


@dataclass(frozen=True)
class PublishedTable:
    """A table as the study has it."""

    name: str
    caption: str
    headers: Sequence[str]
    figures: int  # how many of the columns are figures, the last ones
    rows: Sequence[Sequence[Cell]]

    @property
    def title(self) -> str:
        return f"{self.name}. {self.caption}"

    def json(self) -> dict[str, Json]:
        """The table as text, and its figures as numbers."""
        rows = [[f"{c.text} {c.small}".strip() for c in row] for row in self.rows]
        values = [[c.sort for c in row[-self.figures :]] for row in self.rows]
        return {
            "name": self.name,
            "caption": self.caption,
            "headers": list(self.headers),
            "rows": rows,
            "values": values,
        }


def published_tables(study: Study, shown: Sequence[Moment]) -> list[PublishedTable]:
    """Tables 1 and 2 after each of the kept epochs and at the end, then the study's values beside those found here."""
    found = sources(study, shown)
    tables = []
    for number, by_class in ((1, False), (2, True)):
        mine = [m for m in shown if m.samples.denoiser.conditional == by_class]
        epochs = list(dict.fromkeys(_epochs(m) for m in sorted(mine, key=lambda m: m.epochs) if not m.last))
        stages = [[m for m in mine if not m.last and _epochs(m) == then] for then in epochs]
        for place, stage in enumerate([*stages, [m for m in mine if m.last]]):
            letter = "a" if place == 0 and epochs else "b" if place == len(epochs) else ", between"
            if stage:
                tables.append(_table(study, stage, found, f"Table {number}{letter}"))
    return [*tables, _against(study, shown, found), _against_by_class(study, shown, found)]


def published_section(tables: Sequence[PublishedTable]) -> str:
    """The tables one below the other."""
    drawn = (html.table(t.headers, t.rows, caption=t.title, sortable=False) for t in tables)
    words = "± is half of a 95 % interval over images. Nothing is concluded here: The answer tells who leads in what."
    return "".join(drawn) + html.text(words) if tables else ""


def _epochs(moment: Moment) -> str:
    return f"{moment.epochs:.3g}"


# ---- Tables 1 and 2


def _table(study: Study, stage: Sequence[Moment], found: dict[str, FigureSource], name: str) -> PublishedTable:
    """A row for each set of samples, or for each class of it."""
    by_class = stage[0].samples.denoiser.conditional
    columns = [found[column] for column in (CLASS_COLUMNS if by_class else COLUMNS)]
    rows: list[list[Cell]] = []
    for moment in stage:
        label = Cell(_label(study, moment))
        for class_name in moment.samples.classes if by_class else [None]:
            told = [Cell(class_name)] if class_name is not None else []
            rows.append([label, *told, *(_cell(study, moment, column, class_name) for column in columns)])
    counts = ", ".join(str(n) for n in sorted({len(m.samples) for m in stage}))
    epochs = listed(sorted({_epochs(m) for m in stage}, key=float))
    drawn = "Class-conditional, each class against its own real images" if by_class else "Unconditional"
    caption = f"{drawn}; after {epochs} epochs; {counts} samples in all. {notes(study, stage, columns, by_class)}"
    if by_class and any(all(c == NOTHING for c in row[2:]) for row in rows):
        caption += " A class with too few samples has no figures."
    headers = ["encoder", *(["class"] if by_class else []), *(column.header for column in columns)]
    return PublishedTable(name, caption, headers, len(columns), rows)


def _label(study: Study, moment: Moment) -> str:
    """The encoder and what tells the row from others; that it is by class says the table."""
    row = study.row(moment.evaluations[0], {})
    how = [word for word in row.how.split(", ") if word and word != "by class"]
    return ", ".join([row.encoder, *how, *([row.seed] if row.seed else [])])


def _cell(study: Study, moment: Moment, source: FigureSource, class_name: str | None) -> Cell:
    estimate = source.estimate(study, moment, class_name)
    if estimate is None:
        return NOTHING
    return Cell(significant(estimate.value), half_width(estimate), sort=estimate.value)


# ---- paper against here


def _against(study: Study, shown: Sequence[Moment], found: dict[str, FigureSource]) -> PublishedTable:
    """Table 1: a line of the study's values above one of those found here."""
    rows = []
    for (encoder, last), values in UNCONDITIONAL.items():
        here = _like(shown, encoder, by_class=False, last=last)
        then = "last" if last else str(FIRST)
        mine = f"last ({_epochs(here)})" if here and last else then
        rows += [
            [Cell(ENCODERS[encoder]), Cell(then), Cell("paper"), *(_published(values[c]) for c in COLUMNS)],
            [Cell(ENCODERS[encoder]), Cell(mine), Cell("here"), *_found(study, here, found, COLUMNS)],
        ]
    caption = f"Unconditional. {_terms(shown, found)}"
    return PublishedTable(
        "Paper against here, Table 1", caption, ["encoder", "epochs", "from", *COLUMNS], len(COLUMNS), rows
    )


def _against_by_class(study: Study, shown: Sequence[Moment], found: dict[str, FigureSource]) -> PublishedTable:
    """Table 2b: the same for each class."""
    rows = []
    for (encoder, name), values in BY_CLASS.items():
        here = _like(shown, encoder, by_class=True, last=True)
        told = [Cell(ENCODERS[encoder]), Cell(name)]
        rows += [
            [*told, Cell("paper"), *(_published(values[c]) for c in CLASS_COLUMNS)],
            [*told, Cell("here"), *_found(study, here, found, CLASS_COLUMNS, name)],
        ]
    epochs = sorted({_epochs(m) for m in shown if m.last and m.samples.denoiser.conditional}, key=float)
    after = f" (here after {listed(epochs)} epochs)" if epochs else ""
    caption = f"Class-conditional, last{after}. {_terms(shown, found)}"
    headers = ["encoder", "class", "from", *CLASS_COLUMNS]
    return PublishedTable("Paper against here, Table 2b", caption, headers, len(CLASS_COLUMNS), rows)


def _like(shown: Sequence[Moment], encoder: str, *, by_class: bool, last: bool) -> Moment | None:
    """The first samples here that are the counterpart of a published row."""
    wanted = names.timm_name(encoder)
    return next(
        (
            m
            for m in shown
            if names.timm_name(asked_name(m.samples.embeddings)) == wanted
            and m.samples.denoiser.conditional == by_class
            and m.last == last
            and (last or _epochs(m) == str(FIRST))
        ),
        None,
    )


def _found(
    study: Study, here: Moment | None, found: dict[str, FigureSource], columns: Sequence[str], name: str | None = None
) -> list[Cell]:
    """What was found here, where it is the same figure."""
    told = [found[c] for c in columns]
    return [_cell(study, here, s, name) if here and _is_published(s) else NOTHING for s in told]


def _is_published(source: FigureSource) -> bool:
    """Whether a figure is what the study gave: Inception's, the data set's classifier's, of manifolds VGG's too."""
    if source.name in OWN or is_inception(source.judge):
        return True
    return source.name in ("precision", "recall") and (source.judge or "").startswith("vgg16")


def _published(value: float) -> Cell:
    return Cell(f"{value:.2f}", sort=value)


def _terms(shown: Sequence[Moment], found: dict[str, FigureSource]) -> str:
    """On what the study's values rest, and why some of those here are missing."""
    said = ["The study: AFHQ, 5 000 samples of 128 px, last after 100 or 150 epochs; encoders are matched by name."]
    there = {names.timm_name(asked_name(m.samples.embeddings)) for m in shown}
    absent = [word for name, word in ENCODERS.items() if names.timm_name(name) not in there]
    said += [f"Not on this page: {listed(absent)}."] if absent else []
    other = [s for s in found.values() if s.judge and not _is_published(s)]
    if other:
        said.append(
            f"{listed([s.name for s in other])} are left out: here they are {other[0].judge}'s, not Inception's."
        )
    return " ".join(said)
