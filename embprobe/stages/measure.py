"""Measure: samples against real images as one judge sees them; `evaluate` puts judges side by side."""

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from embprobe.encoders import names
from embprobe.errors import UserError
from embprobe.stage import Make, Stage, option
from embprobe.stages.features import JUDGES, Featurize, is_encoder, judge_name
from embprobe.store import Artefact, Json
from embprobe.views import HELD_OUT, Features, Images, Samples, held_in, image_size, split_of

if TYPE_CHECKING:
    import numpy as np

    from embprobe.evaluation.agreement import Factors
    from embprobe.evaluation.alignment import PixelSpace
    from embprobe.evaluation.copies import Space
    from embprobe.evaluation.features import FeatureSet

WEAK = 0.9  # a judge less accurate than this is marked
NEIGHBOURS = 5  # training images that the test for copies needs at least


@dataclass(frozen=True, kw_only=True)
class Measure(Stage):
    """Keep one judge's figures of samples against real images; `evaluate` makes them by itself, for each judge.

    Fréchet and kernel distance, score, class shares, precision, recall, density, coverage, authenticity, the class
    asked for, all of it per class, and for what a denoiser drew a test for copies in the judge's features. The reference
    is the training split; the floor is real held-out images in the samples' place, at the samples' number. Without a
    judge: the distance of latents, and the test for copies in pixels and in latents.
    """

    version: ClassVar[int] = 4

    samples: Artefact = option(
        "samples, a decoder (its reconstructions), or a data set",
        made_by=("sample", "decode", "ingest"),
        like="reference",
    )
    reference: Artefact = option("the real images: a data set, or a folder or zip to ingest first", made_by=("ingest",))
    judge: Artefact | str | None = option(
        f"{JUDGES}; none if not given", None, made_by=("classify", "pretrain"), words=names.OTHERWISE, path="file"
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
    real: Artefact | None = option("what the judge sees in the reference", None, derived=True, made_by=("features",))
    drawn: Artefact | None = option("what the judge sees in the samples", None, derived=True, made_by=("features",))
    device: str = option("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def resolved(self) -> dict[str, object]:
        return {"held_out": split_of(self.reference, self.held_out)}

    def prepare(self, make: Make, *, download: bool) -> Self:
        """The judge looks at the reference and at the samples, once each, at one size."""
        if self.judge is None or not (self.reference.complete and self.samples.complete):
            return self
        look = Featurize(
            images=self.reference,
            judge=self.judge,
            size=self.size,
            held_out=self.held_out,
            limit=self.limit,
            seed=self.seed,
            device=self.device,
        )
        elsewhere = replace(look, images=self.samples, whole=True, held_out="auto")
        drawn = None if self.samples == self.reference else make(elsewhere)
        return replace(self, real=make(look), drawn=drawn)

    def spec(self) -> dict[str, Json]:
        """An encoder that judges counts by its full name."""
        return super().spec() | judge_name(self.judge)

    def check(self) -> None:
        if isinstance(self.judge, Artefact) and self.judge.stage == "classify":
            told = self.judge.read_json("classifier.json", dict)
            asked, known = Images(self.reference).classes, told["classes"]
            if asked != known and "factors" not in told:
                raise UserError(
                    f"judge {self.judge.short} knows the classes {', '.join(known[:3])}…, the reference has others; "
                    "give a judge made from the reference"
                )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width at which images are compared: the samples', or for images from elsewhere the reference's."""
        return image_size(self.reference if self.samples.stage == "ingest" else self.samples)

    def work(self) -> float:
        """Images compared."""
        return float(held_in(self.samples))

    def run(self, out: Artefact) -> None:
        for name, compute in (("figures.json", self.figures), ("copies.json", self.copies)):
            if not out.has(name):
                out.write_json(name, compute())
        out.note(**{key: value["value"] for key, value in out.read_json("figures.json")["metrics"].items()})
        out.note(**{f"copies_{k}": v["copies"] for k, v in out.read_json("copies.json").items()})

    def figures(self) -> dict[str, Json]:
        """The judge's report; without a judge, the distance of latents."""
        if self.judge is None:
            return {"metrics": self.latent_figures()}
        from embprobe import console
        from embprobe.device import device_of
        from embprobe.evaluation import agreement, reports
        from embprobe.evaluation.features import compared_sets

        assert self.real is not None
        real, drawn = Features(self.real), None if self.drawn is None else Features(self.drawn)
        images = Images(self.reference)
        sets = reports.sound(compared_sets(images, real, drawn, device_of(self.device)), self.k)
        console.say(reports.counts(sets, self.held_out))
        name, accuracy, classes, facts = (real.judge[key] for key in ("name", "accuracy", "classes", "facts"))
        terms = reports.Terms(
            self.k,
            images.classes,
            knows=classes is not None,
            accuracy=accuracy,
            learned=isinstance(self.judge, Artefact),
            whole_reference=self.reference_count == "all",
            common_scale=name != "inception",
        )
        factors = agreement.Factors.of(real)
        report = reports.judge_report(sets if factors is None else agreement.without_probabilities(sets), terms)
        if factors is not None:
            report = self.agreeing(report, factors, sets)
        facts = {"name": name, "accuracy": accuracy, **facts, "weak": accuracy is not None and accuracy < WEAK}
        facts |= {"probed": probed(self.judge, self.samples), "judge": judge_identity(self.real)}
        reference = sets["train"].cut(report["count"]).digest()
        most = max(len(part) for part in sets.values())
        return facts | {"protocol": self.protocol(most >= self.limit), "reference": reference} | report

    def agreeing(self, report: dict[str, Json], factors: "Factors", sets: "dict[str, FeatureSet]") -> dict[str, Json]:
        """A report of a judge of factors, with how far samples agree with their prompts, where they have some."""
        from embprobe.evaluation.agreement import agreement, prompts_of

        prompts, captions = prompts_of(self.samples), Images(self.reference).captions or []
        if prompts is None:
            return report
        asked, known = (
            [of[row] for row in rows] for of, rows in ((prompts, sets["samples"].rows), (captions, self.seen()))
        )
        found = agreement(factors, sets, asked, known)
        metrics = report["metrics"] | ({"agreement": found["joint"]} if found["joint"] else {})
        return report | {"metrics": metrics, "agreement": found}

    def protocol(self, limited: bool) -> dict[str, Json]:
        """What rows must share to be compared."""
        terms: dict[str, Json] = {
            "data": self.reference.short,
            "size": "×".join(str(side) for side in dict.fromkeys(self.size)),
        }
        terms |= {"k": self.k, "held out": self.held_out}
        return terms | ({"limit": self.limit, "seed": self.seed} if limited else {})

    def latent_figures(self) -> dict[str, Json]:
        """The distance of latents, where a denoiser that saw the reference drew the samples."""
        from embprobe.evaluation.latents import latent_distance

        rows = self.rows()
        space = self.latent_space(rows[0]) if rows else None
        estimate = space and rows and latent_distance(space, rows[1], rows[2], self.seed)
        return {"latent_fd": estimate.json()} if estimate else {}

    def copies(self) -> dict[str, Json]:
        """The test for copies in each space that needs this judge, or none."""
        rows = self.rows() if self.memorisation else None
        if rows is None:
            return {}
        from embprobe.device import device_of
        from embprobe.evaluation import alignment, copies
        from embprobe.evaluation.features import image_sets

        places, train, held = rows
        train, held = copies.distinct(Images(self.reference), train, held, self.seen())
        if self.too_few(train, held):
            return {}
        spaces: dict[str, Space | PixelSpace | None] = {}
        if self.judge is None:
            drawn = image_sets(self.samples, self.size, self.limit, self.seed, None)["samples"]
            spaces["pixels"] = alignment.PixelSpace(drawn, Images(self.reference))
            spaces["latents"] = self.latent_space(places)
        elif self.real is not None and self.drawn is not None:
            features = Features(self.drawn).tensor("samples")
            spaces["judge"] = copies.judge_space(features, Features(self.real))
        count = 3 if self.of_reference() else 2  # of which others are measured without this judge, or with one
        return {
            k: copies.search_copies(space, places, train, held, count, self.seed, device_of(self.device))
            for k, space in spaces.items()
            if space is not None
        }

    def rows(self) -> "tuple[np.ndarray, np.ndarray, np.ndarray] | None":
        """Rows of the samples, of the training images that the denoiser saw, and of held-out images.

        None for a decoder's reconstructions and for the reference itself, and where too little is held out.
        """
        import numpy as np

        from embprobe.views import seeded_subset

        if self.samples.stage == "decode" or self.samples == self.reference:
            return None
        reference = Images(self.reference)
        held = seeded_subset(reference.of_split(self.held_out), self.limit, self.seed)
        train = np.intersect1d(seeded_subset(reference.train, self.limit, self.seed), self.seen())
        if self.too_few(train, held):
            return None
        count = len(Images(self.samples) if self.samples.stage == "ingest" else Samples(self.samples))
        return seeded_subset(np.arange(count), self.limit, self.seed), train, held

    def seen(self) -> "np.ndarray":
        """Rows of the training images that the samples may be copies of."""
        return Samples(self.samples).denoiser.training_rows() if self.of_reference() else Images(self.reference).train

    def too_few(self, train: "np.ndarray", held: "np.ndarray") -> bool:
        """Whether there are fewer real images than the test needs."""
        return len(train) <= max(self.k, NEIGHBOURS) or len(held) <= self.k

    def latent_space(self, rows: "np.ndarray") -> "Space | None":
        """Latents, where the denoiser's are those of the reference."""
        from embprobe.evaluation import copies

        return copies.latent_space(Samples(self.samples), rows) if self.of_reference() else None

    def of_reference(self) -> bool:
        """Whether a denoiser drew the samples that learned from the reference."""
        if self.samples.stage != "sample":
            return False
        samples = Samples(self.samples)
        return samples.drawn and samples.denoiser.latents.images.artefact == self.reference


def judge_identity(features: Artefact) -> str:
    """Tells judges apart whose weights differ, whatever they are called."""
    told = {key: features.spec.get(key) for key in ("judge", "family", "weights", "version")}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:12]


def probed(judge: Artefact | str, samples: Artefact) -> bool:
    """Whether the judge is the encoder whose embeddings the samples were drawn from."""
    from embprobe.views import Decoder

    if samples.stage == "decode":
        encoder = Decoder(samples).latents.embeddings.encoder
    elif samples.stage == "sample" and Samples(samples).drawn:
        encoder = Samples(samples).embeddings.encoder
    else:
        return False
    if isinstance(encoder, str) and is_encoder(judge):
        return names.full_name(encoder) == names.full_name(str(judge))
    return encoder == judge
