"""Samples of a denoiser after the epochs that were kept, as many as of the finished one, and at its end."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from embprobe.errors import UserError
from embprobe.store import Artefact, Json
from embprobe.study.facts import same_training
from embprobe.study.reading import Study
from embprobe.study.rows import Row
from embprobe.views import Evaluation, Samples


@dataclass(frozen=True)
class Moment:
    """One set of samples with its evaluations; `last` where the denoiser was finished."""

    samples: Samples
    evaluations: tuple[Evaluation, ...]
    last: bool

    @property
    def epochs(self) -> float:
        return self.samples.epochs

    def judged(self, study: Study, judge: str) -> tuple[Evaluation, Json] | None:
        """The first evaluation that this judge reports in, and its report."""
        found = ((e, study.report(e, judge)) for e in self.evaluations)
        return next(((e, report) for e, report in found if report is not None), None)


def moments_of(study: Study, epochs: Sequence[float] = ()) -> list[Moment]:
    """What was drawn after these epochs, else after those that `diffuse --keep-epochs` kept, then of the finished denoiser.

    In the order of the page; earlier samples count where they are as many as the last and drawn and decoded alike. Raises
    UserError for epochs after which no denoiser drew any.
    """
    evaluations: dict[Artefact, list[Evaluation]] = defaultdict(list)
    for evaluation in study.drawn:
        evaluations[evaluation.source].append(evaluation)
    drawn = [Samples(source) for source in evaluations]
    _check_drawn(drawn, epochs)
    found: dict[Samples, Moment] = {}
    for last in [samples for samples in drawn if samples.milestone is None]:
        alike = [s for s in drawn if _asked(s, epochs) and len(s) == len(last) and same_training(s, last)]
        for samples in [*sorted(alike, key=lambda s: s.epochs), last]:
            told = tuple(evaluations[samples.artefact])
            found.setdefault(samples, Moment(samples, told, samples == last))
    return list(found.values())


def _check_drawn(drawn: Sequence[Samples], epochs: Sequence[float]) -> None:
    """Every epoch has samples on the page."""
    missing = [e for e in epochs if not any(s.denoiser.step_at(e) == (s.milestone or s.denoiser.steps) for s in drawn)]
    if missing:
        there = ", ".join(dict.fromkeys(f"{s.epochs:.4g}" for s in sorted(drawn, key=lambda s: s.epochs))) or "none"
        raise UserError(
            f"--epochs {missing[0]:g}: none of the samples given were drawn then, only after {there}; draw them with "
            "`embprobe sample --epoch` and evaluate them, or leave it out"
        )


def _asked(samples: Samples, epochs: Sequence[float]) -> bool:
    """Whether samples are of a step that is to be shown."""
    step, denoiser = samples.milestone, samples.denoiser
    return step is not None and step in ([denoiser.step_at(e) for e in epochs] if epochs else denoiser.kept)


def rows_over_training(study: Study, shown: Sequence[Moment], judge: str) -> list[Row]:
    """A judge's row for every moment of the denoisers that have earlier ones; nothing is concluded from them."""
    staged = {m.samples.denoiser for m in shown if not m.last}
    rows = []
    for moment in [m for m in shown if m.samples.denoiser in staged]:
        found = moment.judged(study, judge)
        if found is not None:
            rows.append(replace(study.judged_row(found[0], judge), epochs=moment.epochs, unusable=()))
    return rows
