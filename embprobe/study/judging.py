"""What judges say of a study: who they are, how far they can be trusted, the answer, and what it leaves open."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from embprobe.metrics.table import Metric
from embprobe.store import Json
from embprobe.study import verdict
from embprobe.study.reading import Study
from embprobe.study.rows import Row
from embprobe.study.verdict import Difference, Sentence, Standing, listed

READERS = "readers"  # the simple readers of embeddings, compared as if they were a judge
NOBODY = "no judge"


@dataclass(frozen=True)
class JudgeReport:
    """A judge's rows, and what it says of itself."""

    name: str
    accuracy: float | None
    rows: Sequence[Row]
    labels: Sequence[str]  # of each set of samples
    reports: Sequence[Json]  # its part of each evaluation
    protocols: Sequence[Json]

    @property
    def weak(self) -> bool:
        return any(r.weak for r in self.rows)

    @property
    def probed(self) -> list[str]:
        """Encoders that this judge is, or was trained as."""
        return list(dict.fromkeys(r.encoder for r in self.rows if r.probed))

    @property
    def caption(self) -> str:
        """Who judged and how well it knows the classes, with its flags: stands over every table."""
        if self.name == READERS:
            return "Simple readers of the embeddings, on held-out images"
        known = "" if self.accuracy is None else f", {100 * self.accuracy:.1f} % accurate on held-out images"
        flags = " ⚠ weak judge (below 90 %)" if self.weak else ""
        flags += f" ⚠ the judge is a probed encoder ({listed(self.probed)})" if self.probed else ""
        return f"Judged by {self.name}{known}{flags}"

    @cached_property
    def groups(self) -> dict[str, dict[str, list[Row]]]:
        """Rows that may be compared, by how they were drawn."""
        return verdict.groups(self.rows)

    @cached_property
    def differences(self) -> dict[str, list[Difference]]:
        """Every difference that has an interval, by how the rows were drawn."""
        return {how: verdict.differences(group) for how, group in self.groups.items()}

    def standings(self, how: str) -> list[Standing]:
        """Who is ahead among the learned encoders."""
        group = self.groups.get(how, {})
        return verdict.standings({k: rows for k, rows in group.items() if not rows[0].control})


def judges(study: Study) -> list[JudgeReport]:
    """Every judge, the first one given first."""
    judge_reports = []
    for name in study.judges or [NOBODY]:
        mine = study.once(name)
        reports, labels = [e.judges[name] for e in mine], [study.name(e.samples) for e in mine]
        accuracy = reports[0].get("accuracy") if reports else None
        judge_reports.append(JudgeReport(name, accuracy, study.rows(name), labels, reports, [e.protocol for e in mine]))
    return judge_reports


def readers(study: Study) -> JudgeReport:
    """What simple readers find in embeddings, compared as if they were a judge."""
    return JudgeReport(READERS, None, study.embeddings(), (), (), ())


def answers(judged: Sequence[JudgeReport], embeddings: Sequence[Row]) -> list[tuple[str, list[Sentence]]]:
    """A heading and its sentences for each judge and way of drawing, then for what readers find in embeddings."""
    sections = []
    for judge in judged:
        for how, group in judge.groups.items():
            drawn = f"Samples {how}" if how else "Samples"
            sections.append(
                (f"{drawn}, judged by {judge.name}{' ⚠' if judge.weak or judge.probed else ''}", verdict.answer(group))
            )
    for group in verdict.groups(embeddings).values():
        sections.append(("Embeddings, by simple readers on held-out images", verdict.answer(group)))
    return [(heading, said) for heading, said in sections if said]


def cautions(study: Study, judged: Sequence[JudgeReport]) -> list[str]:
    """What can't be concluded."""
    said = [_seeds(study), *(_trust(j) for j in judged), _disagreement(judged), *(_decoders(j) for j in judged[:1])]
    reports = [report for judge in judged for report in judge.reports]
    if any(not r["metrics"].get("fd_infinity", {}).get("reliable", True) for r in reports):
        said.append(
            "FD∞ (⚠) wants at least four samples for each feature dimension and has fewer: no winner is named in it."
        )
    if any(len({r.count for rows in g.values() for r in rows}) > 1 for j in judged for g in j.groups.values()):
        said.append(
            "Rows have different numbers of samples: only KID and asked class, which don't depend on it, are compared."
        )
    if any(r["count"] != r["floor_count"] for r in reports):
        said.append("The floor has fewer images than the samples (column n), which raises its FD and FD's alone.")
    if study.unlike:
        said.append(
            f"Compared rows differ in more than the encoder: {listed(study.unlike)}. A difference may come from there."
        )
    said += _copying(study)
    total = sum(len(differences) for j in (*judged, readers(study)) for differences in j.differences.values())
    if total > 1:
        said.append(
            f"{total} differences are given at 95 % each, without correction for their number: where nothing differs, "
            "about one in twenty intervals still leaves out 0."
        )
    return [s for s in said if s]


def _seeds(study: Study) -> str:
    """Whether the spread over training is known."""
    groups = verdict.groups(study.rows(study.judges[0])) if study.judges else {}
    several = [len(rows) > 1 for group in groups.values() for rows in group.values()]
    if not several or all(several):
        return ""
    return (
        "There is one training seed each: intervals are over images and leave out what another seed of training would "
        "change, which may be more."
    )


def _trust(judge: JudgeReport) -> str:
    """What a weak or probed judge puts in doubt."""
    said = []
    if judge.weak:
        known = (
            f" gets {100 * judge.accuracy:.1f} % of held-out images right" if judge.accuracy is not None else " is weak"
        )
        said.append(
            f"{judge.name}{known}: class shares, score, asked class and everything per class carry its mistakes."
        )
    if judge.probed:
        said.append(
            f"{judge.name} is, or was trained as, the encoder of {listed(judge.probed)}: its figures may flatter it."
        )
    return " ".join(said)


def _disagreement(judged: Sequence[JudgeReport]) -> str:
    """Figures in which two judges name different winners."""
    winners: dict[tuple[str, Metric], dict[str, str]] = {}
    for judge in judged:
        for how in judge.groups:
            for standing in judge.standings(how):
                if not standing.tied:
                    winners.setdefault((how, standing.column), {})[judge.name] = standing.best
    apart = [(how, c, by) for (how, c), by in winners.items() if len(set(by.values())) > 1]
    said = [
        f"{column.name}{f' ({how})' if how else ''}: {', '.join(f'{best} by {name}' for name, best in by.items())}"
        for how, column, by in apart
    ]
    return f"Judges disagree in {'; '.join(said)}." if said else ""


def _decoders(judge: JudgeReport) -> str:
    """How much of the samples' FD the decoders alone explain."""
    rebuilt = {r.encoder: r for r in judge.rows if r.kind == "reconstructions" and "fd" in r.values}
    if not rebuilt:
        return ""
    fd = {name: row.values["fd"].value for name, row in rebuilt.items()}
    counts = {r.count for r in rebuilt.values()} | {
        r.count for rows in judge.groups.values() for g in rows.values() for r in g
    }
    said = f"Reconstructions of real images alone score FD {listed([f'{v:.1f} ({name})' for name, v in fd.items()])}"
    said += ", at another number of images (column n)" if len(counts) > 1 else ""
    said += ": the decoder bounds what samples can reach."
    for how in judge.groups:
        for standing in [s for s in judge.standings(how) if s.column.key == "fd" and not s.tied]:
            next_best = standing.behind[0]
            rival, size = verdict.other(next_best, standing.best), next_best.lead()[0]
            apart = fd[rival] - fd[standing.best] if {rival, standing.best} <= set(fd) else 0.0
            if apart >= size / 2:
                drawn = f" ({how})" if how else ""
                said += (
                    f" {standing.best}'s lead of {size:.1f} over {rival}{drawn} stands against {apart:.1f} between their "
                    "decoders: it may be theirs."
                )
    return said


def _copying(study: Study) -> list[str]:
    """Rows whose samples lie nearer to training images than held-out images do."""
    said = []
    for evaluation in study.final:
        tests = evaluation.copies.items()
        suspicious = [f"{space} (p {pvalue(t['p'])})" for space, t in tests if t and t.get("p", 1) < 0.01]
        if suspicious:
            said.append(
                f"{study.name(evaluation.samples)} may copy: its samples lie nearer to training images than held-out images "
                f"do, in {listed(suspicious)}."
            )
    return list(dict.fromkeys(said))


def pvalue(p: float) -> str:
    """A p-value as text."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"
