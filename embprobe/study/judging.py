"""What judges say of a study: who they are, how far they can be trusted, the answer, and what it leaves open."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from embprobe.metrics.table import METRICS
from embprobe.store import Json
from embprobe.study import chance, verdict
from embprobe.study.chance import Difference
from embprobe.study.reading import Study
from embprobe.study.readings import reader_rows
from embprobe.study.rows import Row
from embprobe.study.usable import judge_knows
from embprobe.study.verdict import Sentence, Standing, listed

READERS = "readers"  # the simple readers of embeddings, compared as if they were a judge
NOBODY = "no judge"


@dataclass(frozen=True)
class JudgeReport:
    """A judge's rows, what it says of itself, and the differences between rows, corrected for their number."""

    name: str
    accuracy: float | None
    rows: Sequence[Row]
    labels: Sequence[str]  # of each set of samples
    reports: Sequence[Json]  # its part of each evaluation
    protocols: Sequence[Json]
    differences: Mapping[str, Sequence[Difference]]  # by how the rows were drawn; all that have an interval

    @property
    def weak(self) -> bool:
        return any(r.weak for r in self.rows)

    @property
    def knows(self) -> bool:
        """Whether it tells classes apart at all."""
        return judge_knows(self.accuracy, max((len(r.get("classes") or []) for r in self.reports), default=0))

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
        error = self.reports[0].get("calibration_error") if self.reports else None
        known += "" if error is None else f", calibration error {100 * error:.1f} %"
        flags = " ⚠ weak judge (below 90 %)" if self.weak else ""
        flags += f" ⚠ the judge is a probed encoder ({listed(self.probed)})" if self.probed else ""
        return f"Judged by {self.name}{known}{flags}"

    @cached_property
    def groups(self) -> dict[str, dict[str, list[Row]]]:
        """Rows that may be compared, by how they were drawn."""
        return verdict.groups(self.rows)

    def standings(self, how: str) -> list[Standing]:
        """Who is ahead among the learned encoders that conclusions can rest on."""
        group = self.groups.get(how, {})
        usable = {k: rows for k, rows in group.items() if not rows[0].control and not any(r.unusable for r in rows)}
        return verdict.standings(usable, verdict.among(self.differences.get(how, ()), list(usable)))

    @property
    def leaders(self) -> dict[tuple[str, str], str]:
        """The encoder that is ahead of every other row drawn alike, controls too, by how and figure."""
        found = {}
        for how, group in self.groups.items():
            usable = {k: rows for k, rows in group.items() if not any(r.unusable for r in rows)}
            for standing in verdict.standings(usable, verdict.among(self.differences.get(how, ()), list(usable))):
                if not standing.tied:
                    found[how, standing.column.key] = standing.best
        return found

    def answer(self, how: str) -> list[Sentence]:
        """What it says of the rows drawn so; nothing can be said by a judge that knows no class from another."""
        if not self.knows:
            right = f"{100 * (self.accuracy or 0):.1f} % right on held-out images"
            return [
                Sentence("The judge", f"can't tell the classes ({right}): nothing is concluded from it, nobody wins.")
            ]
        return verdict.answer(self.groups[how], self.differences.get(how, ()))


def compared(study: Study) -> tuple[list[JudgeReport], JudgeReport]:
    """Every judge, the first one given first, and the simple readers, whose differences are two families.

    One family are all comparisons of learned encoders on the page, the other all that a control is a side of: of either
    Holm's correction makes it rare that any claim is false.
    """
    judged = [judged_by(study, name) for name in study.judges or [NOBODY]]
    readers = JudgeReport(READERS, None, reader_rows(study), (), (), (), {})
    every = [(j, how, d) for j in (*judged, readers) for how, g in j.groups.items() for d in verdict.differences(g)]
    every = [(j, how, d if j.knows else replace(d, barred=True)) for j, how, d in every]
    controls = {row.encoder for j in (*judged, readers) for row in j.rows if row.control}
    found: dict[tuple[str, str], list[Difference]] = defaultdict(list)
    for of_controls in (False, True):
        family = [one for one in every if bool({one[2].first, one[2].second} & controls) == of_controls]
        for (judge, how, _), difference in zip(family, chance.corrected([d for _, _, d in family]), strict=True):
            found[judge.name, how].append(difference)
    *judged, readers = (
        replace(j, differences={how: by_column(found[j.name, how]) for how in j.groups if found[j.name, how]})
        for j in (*judged, readers)
    )
    return judged, readers


def by_column(differences: Sequence[Difference]) -> list[Difference]:
    """In the order of the metrics."""
    return sorted(differences, key=lambda d: METRICS.index(d.column))


def judged_by(study: Study, name: str) -> JudgeReport:
    """One judge's part, without differences."""
    mine = study.once(name)
    reports = [report for e in mine if (report := study.report(e, name)) is not None]
    labels = [study.name(e) for e in mine]
    accuracy = reports[0].get("accuracy") if reports else None
    return JudgeReport(name, accuracy, study.rows(name), labels, reports, [e.protocol for e in mine], {})


def answers(judged: Sequence[JudgeReport], readers: JudgeReport) -> list[tuple[str, list[Sentence]]]:
    """A heading and its sentences for each judge and way of drawing, then for what readers find in embeddings."""
    sections = []
    for judge in judged:
        for how in judge.groups:
            drawn = f"Samples {how}" if how else "Samples"
            flag = " ⚠" if judge.weak or judge.probed else ""
            sections.append((f"{drawn}, judged by {judge.name}{flag}", judge.answer(how)))
    for how in readers.groups:
        sections.append(("Embeddings, by simple readers on held-out images", readers.answer(how)))
    return [(heading, said) for heading, said in sections if said]


def family_words(judged: Sequence[JudgeReport], readers: JudgeReport) -> str:
    """What the claims of the page are corrected for."""
    every = [d for j in (*judged, readers) for differences in j.differences.values() for d in differences]
    controls = {row.encoder for j in (*judged, readers) for row in j.rows if row.control}
    told = [d for d in every if not d.barred and d.column.higher is not None]
    with_control = sum(bool({d.first, d.second} & controls) for d in told)
    words = [f"{len(told) - with_control} comparisons of learned encoders"] if len(told) > with_control else []
    words += [f"{with_control} with a control"] if with_control else []
    if not words:
        return ""
    return (
        f"Who leads and who is behind is corrected by Holm's method for the {listed(words)} of this page, each a family: where "
        "nothing differs, a family makes any false claim at all in at most one page of twenty. Square brackets: the 95 % "
        "interval of the difference by itself, uncorrected."
    )
