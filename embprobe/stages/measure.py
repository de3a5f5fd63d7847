"""Measure: samples against real images as one judge sees them; `evaluate` puts judges side by side."""

from dataclasses import dataclass, replace
from typing import Self

from embprobe.errors import UserError
from embprobe.stage import Make, Stage, option
from embprobe.stages.features import JUDGES, Features, judge_name
from embprobe.store import Artefact, Json
from embprobe.views import Images, Samples
from embprobe.views import Features as Seen


@dataclass(frozen=True, kw_only=True)
class Measure(Stage):
    """Keep one judge's figures of samples against real images; `evaluate` makes them by itself, one for each judge.

    Fréchet and kernel distance, score, class shares, precision, recall, density, coverage, authenticity, the class
    asked for, all of it per class; for what a denoiser drew, a test for copies in the judge's features. The reference
    is the training split; the floor is real held-out images against it. Counts are matched.
    """

    samples: Artefact = option(
        "samples, a decoder (its reconstructions), or a data set", made_by=("sample", "decode", "ingest")
    )
    reference: Artefact = option(
        "the real images: a data set, or a folder or zip to ingest first", made_by=("ingest",)
    )
    judge: Artefact | str = option(JUDGES, made_by=("classify", "pretrain"), path="file")
    k: int = option("neighbours that span the manifolds of precision, recall, density and coverage", 3, least=1)
    memorisation: bool = option("look for copies of training images in what a denoiser drew", True)
    limit: int = option("most samples and reference images used", 50_000, least=1)
    seed: int = option("seed of which images are used where there are more", 0, least=0)
    real: Artefact = option("what the judge sees in the reference", None, derived=True, made_by=("features",))
    drawn: Artefact | None = option("what the judge sees in the samples", None, derived=True, made_by=("features",))
    device: str = option("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def prepare(self, make: Make, *, download: bool) -> Self:
        """The judge looks at the reference and at the samples, once each, at the samples' size."""
        if not (self.reference.complete and self.samples.complete):
            return self
        seen = Features(
            images=self.reference,
            judge=self.judge,
            size=image_size(self.samples),
            limit=self.limit,
            seed=self.seed,
            device=self.device,
        )
        drawn = None if self.samples == self.reference else make(replace(seen, images=self.samples, whole=True))
        return replace(self, real=make(seen), drawn=drawn)

    def spec(self) -> dict[str, Json]:
        """An encoder that judges counts by its full name."""
        return super().spec() | judge_name(self.judge)

    def check(self) -> None:
        if isinstance(self.judge, Artefact) and self.judge.stage == "classify":
            asked, known = Images(self.reference).classes, self.judge.read_json("classifier.json")["classes"]
            if asked != known:
                raise UserError(
                    f"judge {self.judge.short} knows the classes {', '.join(known[:3])}…, the reference has others; "
                    "give a judge made from the reference"
                )

    def work(self) -> float:
        """Images compared."""
        return float(self.samples.metrics.get("count") or 0) if self.samples.complete else 0.0

    def run(self, out: Artefact) -> None:
        from embprobe import console
        from embprobe.evaluation import copies, figures
        from embprobe.evaluation.features import compared_sets
        from embprobe.evaluation.judges import load_judge

        sets = compared_sets(self.reference, Seen(self.real), Seen(self.drawn) if self.drawn else None)
        sets = figures.enough(sets, self.k)
        console.say(figures.counts(sets))
        if not out.has("figures.json"):
            judge = load_judge(self.judge, weights=self.real.question and None)
            out.write_json("figures.json", {})
        if not out.has("copies.json"):
            out.write_json("copies.json", copies)
