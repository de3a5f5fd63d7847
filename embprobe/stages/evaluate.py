"""Evaluate: samples against real images, as judges see them, each figure beside its floor."""

from dataclasses import dataclass, replace
from typing import Literal, Self

from embprobe import console
from embprobe.encoders import names
from embprobe.errors import UserError
from embprobe.stage import Make, Stage, option
from embprobe.stages.classify import Classify
from embprobe.stages.features import JUDGES, judge_name
from embprobe.stages.measure import Measure
from embprobe.store import Artefact, Json
from embprobe.views import HELD_OUT, held_in, split_of


@dataclass(frozen=True, kw_only=True)
class Evaluate(Stage):
    """Measure samples against real images, as judges see them, each figure with an interval and beside its floor.

    What `measure` finds for each judge, side by side, and for what a denoiser drew the distance of its latents from real
    ones and the test for copies. A judge added later is measured alone.
    """

    version = 7

    samples: Artefact = option(
        "samples, a decoder (its reconstructions), or a data set",
        made_by=("sample", "decode", "ingest"),
        like="reference",
    )
    reference: Artefact = option("the real images: a data set, or a folder or zip to ingest first", made_by=("ingest",))
    judges: tuple[Artefact | str, ...] = option(
        f"{JUDGES}, or several with commas between; left out: the data set's classifier, and inception where its weights "
        "are on this machine",
        (),
        made_by=("classify", "pretrain"),
        words=names.OTHERWISE,
        path="file",
    )
    k: int = option(
        "neighbours that span the manifolds of precision, recall, density and coverage", 3, least=1, most=1000
    )
    memorisation: bool = option("look for copies of training images in what a denoiser drew", True)
    held_out: Literal["auto", "val", "test"] = option(HELD_OUT, "auto")
    reference_count: Literal["matched", "all"] = option(
        "`all`: FD against all training images too, as published figures are, beside the one at matched numbers",
        "matched",
    )
    limit: int = option("most samples and reference images used", 50_000, least=1)
    seed: int = option("seed of which images are used where there are more", 0, least=0)
    measured: tuple[Artefact, ...] = option("figures by judge, and without one", (), derived=True, made_by=("measure",))
    device: str = option("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def resolved(self) -> dict[str, object]:
        return {"held_out": split_of(self.reference, self.held_out)}

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
            held_out=self.held_out,
            reference_count=self.reference_count,
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
        else:
            console.say(
                "not judged by Inception, whose weights are not on this machine: published FID, KID and IS have no "
                "counterpart here (--judges inception says how to place them)"
            )
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
        return float(held_in(self.samples))

    def run(self, out: Artefact) -> None:
        *judged, without = self.measured
        reports, alone = (
            [part.read_json("figures.json", dict) for part in judged],
            without.read_json("figures.json", dict),
        )
        for report in reports:  # two weights files of one architecture are two judges
            alike = {r["judge"] for r in reports if r["name"] == report["name"]}
            report["label"] = f"{report['name']} {report['judge'][:6]}" if len(alike) > 1 else report["name"]
        copies = judged[0].read_json("copies.json", dict) | without.read_json("copies.json", dict)
        copies = {space: copies[space] for space in ("pixels", "judge", "latents") if space in copies}
        protocol = self.protocol(reports[0])
        out.write_json(
            "metrics.json", {"judges": reports, "latents": alone, "memorisation": copies, "protocol": protocol}
        )
        first = reports[0]
        out.note(judge=first["label"], held_out=self.held_out, weak=first["weak"], count=first["count"])
        figures = first["metrics"] | alone["metrics"]
        out.note(**{key: estimate["value"] for key, estimate in figures.items()})
        out.note(unreliable=[key for key, estimate in figures.items() if estimate.get("reliable") is False])
        out.note(**{f"copies_{space}": test["copies"] for space, test in copies.items()})

    def protocol(self, report: dict[str, Json]) -> dict[str, Json]:
        """How the figures were taken."""
        size, floor = report["protocol"]["size"], report.get("floor")
        counts = f"{report['count']} samples against as many training images"
        if "whole" in report:
            counts += f"; `FD, all training images`: {report['whole']['samples']} against {report['whole']['training']}"
        return {
            "counts": counts,
            "held out": f"the {self.held_out} split",
            "pixels": f"both sets at {size} px, antialiased bicubic without clipping between passes, u8, then the judge's "
            "own resize",
            "floor": floor_words(floor) if floor else "none: nothing is held out",
            "k": self.k,
            "score": "one split over all samples; class probabilities by softmax at temperature 1",
            "KID": "features over their root mean square in the reference, except Inception's, which are as published",
            "intervals": "95 %, over the choice of samples and of reference images; FD, FD∞, KID, score: delete-group "
            "jackknives; precision, recall, density, coverage, authenticity, TV: 32 times complementary halves of both sets "
            "(shares by Wilson at the effective number)",
            "TV": "from the judged class shares of all training images",
            "FD∞": "twice the FD of all images less the mean FD of two halves that complement each other",
            "ties": "a distance equal to a radius is inside for precision and recall, outside for density and coverage",
            "authenticity": "against as many training images as samples: its floor says what a model that copies nothing gets",
            "memorisation": "of exact and near copies among the real images one each. Training and held-out images are "
            "exchangeable for a sample that copies nothing. What looks copied is at most half as far from its training image "
            "as from any held-out one and from its fifth nearest training image, and is counted against real images known "
            "to be no copies (Fisher's exact test). Pixels: mirrored, shifted by up to 2 of 64 px, cropped by up to 1/8, "
            "whatever the brightness and contrast; what is altered more is not found, so shares are lower bounds. A warning: "
            "p below 0.01 over the spaces searched",
        }


def floor_words(floor: Json) -> str:
    """Which real images stand in the samples' place."""
    words = f"{floor['held_out']} held-out images"
    if floor["training"]:
        words += f" and {floor['training']} training images that are not in the reference"
    words += " in the place of the samples"
    if floor["extrapolated"]:
        words += f", at {floor['images']} and from there foretold for {floor['at']}: FD and score by 1/n, TV by 1/√n"
    return words
