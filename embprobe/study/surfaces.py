"""Trainings of one encoder that differ in width and training images: FD by step, and the power law it follows, if any."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.scaling import STEPS, Law, SizedTraining, fitted
from embprobe.store import Artefact, Json
from embprobe.study.chance import mean_estimate
from embprobe.study.facts import row_facts, settings, worded_list
from embprobe.study.judging import JudgeReport
from embprobe.study.reading import Study
from embprobe.study.rows import Row
from embprobe.study.usable import copied
from embprobe.views import Samples

FIGURE = "fd"
WIDTH, IMAGES = "diffuse.width", "diffuse.train_images"
AXES = {WIDTH: "width", IMAGES: "training images", STEPS: "steps"}  # and what twice as much of each is called
Place = tuple[int, int]  # width and training images


@dataclass(frozen=True)
class Seen:
    """A training's row after some steps, and its floor."""

    row: Row
    floor: Estimate | None
    copies: bool

    @property
    def excess(self) -> float | None:
        """FD above its floor; None where it is not above, or nothing says where that is."""
        above = None if self.floor is None else self.row.values[FIGURE].value - self.floor.value
        return above if above is not None and above > 0 else None


@dataclass(frozen=True)
class Surface:
    """An encoder's trainings that differ in width, images and seed alone: what each gave, by step."""

    name: str
    trainings: Mapping[Artefact, tuple[Place, Mapping[int, Seen]]]
    knows: bool  # whether the judge tells classes apart
    below: int = 0  # points that score below what the decoder makes of real images: then these themselves are the floor

    @property
    def places(self) -> list[Place]:
        return sorted({place for place, _ in self.trainings.values()})

    @property
    def steps(self) -> list[int]:
        return sorted({step for _, seen in self.trainings.values() for step in seen})

    @property
    def is_one(self) -> bool:
        """Whether several widths or numbers of images are there to make it one."""
        return len(self.places) > 1

    def mean(self, place: Place, step: int) -> Estimate | None:
        """FD over the seeds."""
        rows = [seen[step].row for at, seen in self.trainings.values() if at == place and step in seen]
        return mean_estimate(rows, FIGURE)

    @cached_property
    def sunk(self) -> int:
        """How many points are not above their floor, of which a logarithm can't be taken."""
        return sum(point.excess is None for _, seen in self.trainings.values() for point in seen.values())

    @cached_property
    def copying(self) -> list[int]:
        """Numbers of training images of which copies were found among samples."""
        found = (place[1] for place, seen in self.trainings.values() if any(point.copies for point in seen.values()))
        return sorted(set(found))

    @cached_property
    def law(self) -> Law | None:
        """What it follows; None where nothing can be fitted."""
        if self.sunk or not self.knows:
            return None
        sized = (({WIDTH: place[0], IMAGES: place[1]}, _excesses(seen)) for place, seen in self.trainings.values())
        return fitted([SizedTraining(sizes, excess) for sizes, excess in sized])


def _excesses(seen: Mapping[int, Seen]) -> dict[int, float]:
    return {step: point.excess for step, point in seen.items() if point.excess is not None}


# ---- from the study


def surfaces(study: Study, judge: JudgeReport) -> list[Surface]:
    """A surface for each encoder and way of drawing that has several widths or numbers of images, by one judge."""
    floors = _floors(study, judge.name)
    found: dict[str, dict[Artefact, tuple[Place, dict[int, Seen]]]] = defaultdict(dict)
    names: dict[str, str] = {}
    for evaluation in study.drawn:
        report = study.report(evaluation, judge.name)
        if report is None or not (report["metrics"].get(FIGURE) or {}).get("value"):
            continue
        samples = evaluation.samples
        row = study.row(evaluation, {FIGURE: Estimate.of(report["metrics"][FIGURE])}, report, **row_facts(report))
        key = repr((samples.embeddings.short, _kept_alike(samples), row.count, row.reference, report.get("protocol")))
        names.setdefault(key, worded_list(row.encoder, study.how(samples, apart=(WIDTH, IMAGES)), study.terms(report)))
        _, seen = found[key].setdefault(samples.denoiser.artefact, (_place(samples), {}))
        floor = floors.get((samples.decoder.artefact, row.count, row.reference), row.values[FIGURE].floor)
        seen.setdefault(samples.milestone or samples.denoiser.steps, Seen(row, floor, bool(copied(evaluation.copies))))
    every = [Surface(names[key], trainings, judge.knows) for key, trainings in found.items()]
    return [_above_its_floor(surface) for surface in every if surface.is_one]


def _above_its_floor(surface: Surface) -> Surface:
    """Over what real images score, where some points fall below their decoder's reconstructions: that is no floor then."""
    if not surface.sunk:
        return surface
    lowered = {
        artefact: (place, {step: replace(p, floor=p.row.values[FIGURE].floor) for step, p in seen.items()})
        for artefact, (place, seen) in surface.trainings.items()
    }
    return replace(surface, trainings=lowered, below=surface.sunk)


def _place(samples: Samples) -> Place:
    return int(samples.denoiser.artefact.spec["width"]), samples.denoiser.training_images


def _kept_alike(samples: Samples) -> Json:
    """All that decides beside the axes and the seeds."""
    return samples.denoiser.conditional, {k: v for k, v in settings(samples).items() if k not in AXES}


def _floors(study: Study, judge: str) -> dict[tuple[Artefact, int | None, str | None], Estimate]:
    """FD of reconstructions by decoder, number and reference."""
    reports = ((e, study.report(e, judge)) for e in study.of_decoders)
    judged = [(e, r) for e, r in reports if r is not None and (r["metrics"].get(FIGURE) or {}).get("value")]
    return {(e.source, r["count"], r.get("reference")): Estimate.of(r["metrics"][FIGURE]) for e, r in judged}
