"""Which judge on a page gives which figure of the published tables, and what is said where it is not the study's own."""

from collections.abc import Sequence
from dataclasses import dataclass

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.table import METRIC
from embprobe.store import Json
from embprobe.study.moments import Moment
from embprobe.study.reading import Study
from embprobe.study.verdict import listed

LACKING = {"IS": "classifier of ImageNet", "ResNet": "classifier of the data set", "TV": "classifier of the data set"}


@dataclass(frozen=True)
class FigureSource:
    """A column of the published tables: whose figure stands in it, nobody's where it can't be had."""

    name: str
    key: str
    judge: str | None
    stands_in: bool = False  # for Inception

    @property
    def header(self) -> str:
        arrow = " ↑" if METRIC[self.key].higher else " ↓"
        figure = {"IS": "score ", "FID": "FD "}.get(self.name, "")
        return f"{self.name}{arrow}" + (f" ({figure}by {self.judge})" if self.stands_in and self.judge else "")

    def estimate(self, study: Study, moment: Moment, name: str | None) -> Estimate | None:
        """The figure of these samples, or of a class of them."""
        found = None if self.judge is None else moment.judged(study, self.judge)
        if found is None:
            return None
        figures = found[1]["metrics"] if name is None else (found[1].get("per_class") or {}).get(name, {})
        figure = figures.get(self.key)
        return None if not figure or figure.get("value") is None else Estimate.of(figure)


def sources(study: Study, shown: Sequence[Moment]) -> dict[str, FigureSource]:
    """A source of every column: Inception, else VGG, else another classifier of ImageNet, else the first judge, and for
    ResNet score and TV the data set's classifier."""
    reports = {name: [found[1] for m in shown if (found := m.judged(study, name))] for name in study.judges}
    reports = {name: mine for name, mine in reports.items() if mine}
    own = next((name for name, mine in reports.items() if any("shares" in r for r in mine)), None)
    onlooker = min(reports, key=lambda name: _rank(name, reports[name]), default=None)
    stands_in = onlooker is not None and not is_inception(onlooker)
    theirs = reports.get(onlooker or "", [])
    scores = onlooker != own and any("score" in r["metrics"] for r in theirs)
    whole = any("fd_all" in r["metrics"] for r in theirs)
    return {
        "IS": FigureSource("IS", "score", onlooker if scores else None, stands_in),
        "ResNet": FigureSource("ResNet", "score", own),
        "TV": FigureSource("TV", "tv", own),
        "recall": FigureSource("recall", "recall", onlooker, stands_in),
        "precision": FigureSource("precision", "precision", onlooker, stands_in),
        "FID": FigureSource("FID", "fd_all" if whole else "fd", onlooker, stands_in),
    }


def is_inception(judge: str | None) -> bool:
    """Whether a judge is Inception, whose figures alone are the published ones."""
    return judge is not None and judge.partition(" ")[0] == "inception"


def _rank(name: str, reports: Sequence[Json]) -> int:
    """How near a judge is to Inception."""
    ranks = (is_inception(name), name.partition(" ")[0] == "vgg16", "learned" in reports[0])
    return next((place for place, fits in enumerate(ranks) if fits), len(ranks))


def notes(study: Study, shown: Sequence[Moment], found: Sequence[FigureSource], by_class: bool) -> str:
    """Who judged, what FID is taken against, and why a column is empty."""
    said = [_who(study, shown, judge, found) for judge in dict.fromkeys(s.judge for s in found) if judge]
    for source in found:
        if source.name == "FID" and source.judge:
            fewer, whole = "as many training images as there are samples", "all training images"
            if by_class:
                fewer, whole = f"{fewer} of the class", f"{whole} of the class"
            else:
                fewer, whole = f"{fewer}, where the study took all", f"{whole}, as the study took it"
            said.append(f"FID is against {whole if source.key == 'fd_all' else fewer}.")
    for reason in dict.fromkeys(LACKING.get(s.name, "judge") for s in found if s.judge is None):
        names = [s.name for s in found if s.judge is None and LACKING.get(s.name, "judge") == reason]
        said.append(f"{listed(names)}: –, since no {reason} has judged.")
    return " ".join(said)


def _who(study: Study, shown: Sequence[Moment], judge: str, found: Sequence[FigureSource]) -> str:
    """Which figures are this judge's, how far it can be trusted, and whether it stands in for Inception."""
    mine = [source for source in found if source.judge == judge]
    reports = [told[1] for m in shown if (told := m.judged(study, judge))]
    accuracy = next((r["accuracy"] for r in reports if r.get("accuracy") is not None), None)
    known = "" if accuracy is None else f" ({100 * accuracy:.1f} % accurate)"
    flags = " ⚠ weak judge" if any(r.get("weak") for r in reports) else ""
    flags += " ⚠ a probed encoder" if any(r.get("probed") for r in reports) else ""
    said = f"{listed([source.name for source in mine])} by {judge}{known}{flags}"
    instead = [source.name for source in mine if source.stands_in]
    if not instead:
        return f"{said}."
    which = "" if len(instead) == len(mine) else f"{listed(instead)} "
    return f"{said}; {which}in the place of Inception, which has not judged: without a published counterpart."
