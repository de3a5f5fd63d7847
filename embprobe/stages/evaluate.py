"""Evaluate: samples against real images, as judges see them, each figure beside its floor."""

from dataclasses import dataclass, replace
from typing import Self

from embprobe.errors import UserError
from embprobe.stage import Make, Stage, option
from embprobe.stages.classify import Classify
from embprobe.stages.features import JUDGES, judge_name
from embprobe.stages.measure import Measure
from embprobe.store import Artefact, Json
from embprobe.views import image_size


@dataclass(frozen=True, kw_only=True)
class Evaluate(Stage):
    """Measure samples against real images, as judges see them, each figure with an interval and beside its floor.

    What `measure` finds for each judge, side by side, and for what a denoiser drew the distance of its latents from real
    ones and the test for copies. A judge added later is measured alone.
    """

    version = 4

    samples: Artefact = option(
        "samples, a decoder (its reconstructions), or a data set", made_by=("sample", "decode", "ingest")
    )
    reference: Artefact = option("the real images: a data set, or a folder or zip to ingest first", made_by=("ingest",))
    judges: tuple[Artefact | str, ...] = option(
        f"{JUDGES}, or several with commas between; left out: the data set's classifier, and inception where its weights "
        "are on this machine",
        (),
        made_by=("classify", "pretrain"),
        path="file",
    )
    k: int = option(
        "neighbours that span the manifolds of precision, recall, density and coverage", 3, least=1, most=1000
    )
    memorisation: bool = option("look for copies of training images in what a denoiser drew", True)
    limit: int = option("most samples and reference images used", 50_000, least=1)
    seed: int = option("seed of which images are used where there are more", 0, least=0)
    measured: tuple[Artefact, ...] = option("figures by judge, and without one", (), derived=True, made_by=("measure",))
    device: str = option("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def prepare(self, make: Make, *, download: bool) -> Self:
        """With judges, each of which has measured the samples; what needs none stands last."""
        if not self.reference.complete:
            return self
        judges = self.judges or self.usual_judges(make)
        measured = Measure(
            samples=self.samples,
            reference=self.reference,
            k=self.k,
            memorisation=self.memorisation,
            limit=self.limit,
            seed=self.seed,
            device=self.device,
        )
        each = tuple(make(replace(measured, judge=judge)) for judge in (*judges, None))
        return replace(self, judges=judges, measured=each)

    def usual_judges(self, make: Make) -> tuple[Artefact | str, ...]:
        """The data set's classifier where it has classes, and Inception where it can be used."""
        from embprobe.evaluation.inception import inception_there

        judges: list[Artefact | str] = []
        if (self.reference.metrics.get("classes") or 0) > 1:
            judges.append(make(Classify(images=self.reference, device=self.device)))
        if inception_there():
            judges.append("inception")
        if not judges:
            raise UserError(
                f"ingest {self.reference.short} has no classes to train a judge on; give --judges inception (with "
                "its weights on this machine), --judges FILE (a torchvision classifier's weights) or --judges ENCODER"
            )
        return tuple(judges)

    def spec(self) -> dict[str, Json]:
        """Encoders that judge count by their full names."""
        spec = super().spec()
        given = [judge_name(judge).get("judge", word) for judge, word in zip(self.judges, spec["judges"], strict=True)]
        return spec | {"judges": given}

    def work(self) -> float:
        """Images compared."""
        return float(self.samples.metrics.get("count") or 0) if self.samples.complete else 0.0

    def run(self, out: Artefact) -> None:
        *judged, without = self.measured
        reports, alone = (
            [part.read_json("figures.json", dict) for part in judged],
            without.read_json("figures.json", dict),
        )
        given = [report["name"] for report in reports]
        for report, part in zip(reports, judged, strict=True):
            if given.count(report["name"]) > 1:  # two weights files of one architecture
                report["name"] += f" {part.short[:6]}"
        copies = judged[0].read_json("copies.json", dict) | without.read_json("copies.json", dict)
        copies = {space: copies[space] for space in ("pixels", "judge", "latents") if space in copies}
        protocol = self.protocol(reports[0])
        out.write_json(
            "metrics.json", {"judges": reports, "latents": alone, "memorisation": copies, "protocol": protocol}
        )
        first = reports[0]
        out.note(judge=first["name"], weak=first["weak"], count=first["count"])
        out.note(**{key: estimate["value"] for key, estimate in (first["metrics"] | alone["metrics"]).items()})
        out.note(**{f"copies_{space}": test["copies"] for space, test in copies.items()})

    def protocol(self, report: dict[str, Json]) -> dict[str, Json]:
        """How the figures were taken."""
        from embprobe.evaluation.figures import COVERAGE

        size = "×".join(str(side) for side in dict.fromkeys(image_size(self.samples)))
        return {
            "counts": {"samples and training images": report["count"], "held-out images": report["floor_count"]},
            "pixels": f"both sets at {size} px, antialiased bicubic, u8, then the judge's own resize",
            "reference": "training split, as many images as samples",
            "floor": "held-out real images in the place of the samples",
            "k": self.k,
            "score": "one split over all samples",
            "intervals": "95 %; FD, FD∞, KID, TV: delete-group jackknives over samples and over the reference, added; score "
            "and density: over samples; precision, recall, coverage, authenticity: Wilson over queries, the manifold kept",
            "coverage of the intervals": COVERAGE,
            "FD∞": "twice the FD of all images less the mean FD of two halves that complement each other",
            "ties": "a distance equal to a radius is inside for precision and recall, outside for density and coverage",
            "memorisation": "training and held-out images are exchangeable for a sample that copies nothing; a copy is at "
            "most half as far from its training image as from any held-out one and from its fifth nearest training image",
        }
