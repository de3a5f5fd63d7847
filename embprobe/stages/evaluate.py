"""Evaluate: samples against real images, as judged networks see them, each figure beside its floor."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Self

from embprobe.errors import UserError
from embprobe.stage import Stage, opt
from embprobe.store import Artefact, Json

if TYPE_CHECKING:
    import numpy as np

    from embprobe.evaluation.judges import Judge
    from embprobe.evaluation.features import Look, Rows

WEAK = 0.9  # a judge less accurate than this is marked
LEAST = 8  # samples a class needs for its own figures


@dataclass(frozen=True, kw_only=True)
class Evaluate(Stage):
    """Measure samples against real images, as a judge sees them, each figure with an interval and beside its floor.

    Fréchet and kernel distance, score, class shares, precision, recall, density, coverage, authenticity, the class
    asked for, all of it per class; for what a denoiser drew, distances of latents and a test for copies. The reference
    is the training split; the floor is real held-out images against it. Counts are matched.
    """

    version: ClassVar[int] = 3

    samples: Artefact = opt(
        "samples, a decoder (its reconstructions), or a data set", kinds=("sample", "decode", "ingest")
    )
    reference: Artefact = opt("the real images: a data set, or a folder or zip to ingest first", kinds=("ingest",))
    judge: Artefact | str | None = opt(
        "a classify artefact, inception, a classifier's weights file or an encoder; the data set's classifier if not given",
        None,
        kinds=("classify", "pretrain"),
        path="file",
    )
    inception: bool = opt("judge by Inception as well when its weights are on this machine", True)
    k: int = opt("neighbours that span the manifolds of precision, recall, density and coverage", 3)
    memorisation: bool = opt("look for copies of training images in what a denoiser drew", True)
    limit: int = opt("most samples and reference images used", 50_000)
    seed: int = opt("seed of which images are used where there are more", 0)
    real: Artefact | None = opt("features of the reference; made if not given", None, runtime=True, kinds=("features",))
    made: Artefact | None = opt("features of the samples; made if not given", None, runtime=True, kinds=("features",))
    device: str = opt("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def __post_init__(self) -> None:
        for name in ("k", "limit"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be at least 1")

    def prepare(self, first: Callable[[Stage], Artefact]) -> Self:
        """Without --judge, the data set's classifier is made first; then the judge looks at the reference, once."""
        if not self.reference.complete:
            return self
        stage = self if self.judge is not None else replace(self, judge=self.usual_judge(first))
        if not stage.samples.complete:
            return stage
        real = stage.real or first(stage.look(stage.reference))
        if stage.samples == stage.reference:
            return replace(stage, real=real)
        return replace(stage, real=real, made=stage.made or first(stage.look(stage.samples, whole=True)))

    def look(self, images: Artefact, whole: bool = False) -> Stage:
        """What the judge sees in images at the samples' size."""
        from embprobe.stages.features import Features

        assert self.judge is not None
        return Features(
            images=images,
            judge=self.judge,
            size=self.samples.metrics["size"],
            whole=whole,
            limit=self.limit,
            seed=self.seed,
            device=self.device,
        )

    def usual_judge(self, first: Callable[[Stage], Artefact]) -> Artefact | str:
        """The data set's classifier; without classes, Inception."""
        if (self.reference.metrics.get("classes") or 0) > 1:
            from embprobe.stages.classify import Classify

            return first(Classify(images=self.reference, device=self.device))
        from embprobe.evaluation.judges import inception_there

        if inception_there():
            return "inception"
        raise UserError(
            f"{self.reference.stage} {self.reference.short} has no classes to train a judge on; give --judge inception (with "
            "its weights on this machine), --judge FILE (a torchvision classifier's weights) or --judge ENCODER"
        )

    def check(self) -> None:
        if isinstance(self.judge, Artefact) and self.judge.stage == "classify":
            asked = self.reference.read_json("classes.json") if self.reference.has("classes.json") else []
            known = self.judge.read_json("classifier.json")["classes"]
            if asked != known:
                raise UserError(
                    f"judge {self.judge.short} knows the classes {', '.join(known[:3])}…, the reference has others; "
                    "give a judge made from the reference"
                )

    def run(self, out: Artefact) -> None:
        from embprobe import console
        from embprobe.training.engine import device_of
        from embprobe.evaluation.judges import inception_there, load_judge

        assert self.judge is not None
        looks = self.kept()
        console.say(self.counts(looks))
        found = {"judge": self.measure(load_judge(self.judge), looks, probed(self.judge, self.samples))}
        if self.inception and self.judge != "inception" and inception_there():
            second = load_judge("inception")
            found["inception"] = self.measure(second, self.seen(second, "inception", device_of(self.device), out))
        alone = self.one_by_one(looks)
        for key, look in looks.items():
            out.create(f"{key}_rows", (len(look),), "int64").write(look.rows)
        out.write_json("metrics.json", {"judges": found, **alone, "protocol": self.protocol(looks)})
        first = found["judge"]
        out.note(judge=first["name"], weak=first["weak"], count=first["count"])
        out.note(**{k: v["value"] for k, v in (first["metrics"] | alone["latents"]["metrics"]).items()})
        out.note(**{f"copies_{space}": v["copies"] for space, v in alone["memorisation"].items()})

    # -- which images

    def sets(self, most: int | None = None) -> "dict[str, Rows]":
        """Samples, training images and held-out images; at most `most` of each, where given."""
        from embprobe.evaluation.features import Rows, splits, spread, whole

        images, size = self.reference.array("images"), self.samples.metrics["size"]
        label = self.reference.array("label").read() if self.reference.has("label") else None

        def real(rows: "np.ndarray") -> Rows:
            kept = spread(rows, most or self.limit, self.seed)
            return Rows(images, kept, None if label is None else label[kept], size)

        parts = {key: real(rows) for key, rows in splits(self.reference.array("split").read()).items() if len(rows)}
        itself = parts.get("held_out", parts["train"])
        return {"samples": itself if self.itself else whole(self.samples, self.limit, self.seed), **parts}

    @property
    def itself(self) -> bool:
        """Whether the data set is measured against itself: its held-out images are the samples."""
        return self.samples == self.reference

    def kept(self) -> "dict[str, Look]":
        """What the judge saw, from the features artefacts."""
        import numpy as np

        from embprobe.evaluation.features import Look, seen

        assert self.real is not None
        sets, found = self.sets(), {}
        samples = (self.made, "samples") if self.made else (self.real, "held_out" if "held_out" in sets else "train")
        for key, rows in sets.items():
            source, name = samples if key == "samples" else (self.real, key)
            places = np.searchsorted(source.array(f"{name}_rows").read(), rows.rows)
            found[key] = Look(seen(source, name, places), rows.rows, rows.label)
        return self.enough(found)

    def seen(self, judge: "Judge", name: str, device: str, out: Artefact) -> "dict[str, Look]":
        """What a second judge sees, computed here and kept."""
        import numpy as np

        from embprobe.evaluation.features import Look, keep, seen

        found = {}
        for key, rows in self.sets(most=len(self.sets()["samples"].rows)).items():
            keep(judge, f"{name}_{key}", rows, device, out)
            found[key] = Look(seen(out, f"{name}_{key}", np.arange(len(rows.rows))), rows.rows, rows.label)
        return found

    def enough(self, looks: "dict[str, Look]") -> "dict[str, Look]":
        """Raises UserError where a manifold can't be spanned; leaves out a floor that can't."""
        made, train = len(looks["samples"]), len(looks["train"])
        if min(made, train) <= self.k:
            raise UserError(f"{made} samples and {train} training images; both must be more than --k {self.k}")
        return {k: v for k, v in looks.items() if k != "held_out" or len(v) > self.k}

    @staticmethod
    def counts(looks: "dict[str, Look]") -> str:
        """How many images are compared."""
        count = min(len(looks["samples"]), len(looks["train"]))
        floor = f", floor from {min(count, len(looks['held_out']))} held-out images" if "held_out" in looks else ""
        return f"{count} samples against {count} training images{floor}"

    def protocol(self, looks: "dict[str, Look]") -> dict[str, Json]:
        """How the figures were taken."""
        from embprobe.evaluation.figures import COVERAGE

        return {
            "counts": {k: len(v) for k, v in looks.items()},
            "pixels": f"both sets at {self.samples.metrics['size']} px, antialiased bicubic, u8, then the judge's own resize",
            "reference": "training split, as many images as samples",
            "floor": "held-out real images in the place of the samples",
            "k": self.k,
            "score": "one split over all samples",
            "intervals": "95 %; FD, FD∞, KID, TV: delete-group jackknives over samples and over the reference, added; score and "
            "density: over samples; precision, recall, coverage, authenticity: Wilson over queries, the manifold kept",
            "coverage of the intervals": COVERAGE,
            "FD∞": "twice the FD of all images less the mean FD of two halves that complement each other",
            "ties": "a distance equal to a radius is inside for precision and recall, outside for density and coverage",
            "memorisation": "training and held-out images are exchangeable for a sample that copies nothing; a copy is at most "
            "half as far from its training image as from any held-out one and from its fifth nearest training image",
        }

    # -- figures

    def measure(self, judge: "Judge", looks: "dict[str, Look]", probed: bool = False) -> dict[str, Json]:
        """Every metric with its interval and floor, then the same per class; `probed`: by the encoder under study."""
        from embprobe.evaluation.figures import figures, share, swapped, with_floor
        from embprobe.metrics.scores import class_shares, confusion

        count, floor_count, cut = matched(looks)
        made = figures(cut["samples"].judged, cut["train"].judged, self.k, extrapolated=True)
        found: dict[str, Json] = {"name": judge.name, "accuracy": judge.accuracy, **judge.facts}
        found |= {"weak": judge.accuracy is not None and judge.accuracy < WEAK, "probed": probed}
        found |= {"count": count, "floor_count": floor_count, "features": int(cut["train"].judged[0].shape[1])}
        found |= {"metrics": with_floor(made, self.floor(cut))}
        found["reference"] = f"{self.reference.short} {self.samples.metrics['size']} px {cut['train'].digest()}"
        probabilities = looks["samples"].judged[1]
        if judge.classes is None or probabilities is None:
            found["metrics"].pop("tv", None)
            return found
        import torch

        judged, total = probabilities.argmax(1), len(judge.classes)
        assert looks["train"].judged[1] is not None
        found["classes"] = judge.classes
        found["shares"] = class_shares(judged, total).tolist()
        found["real_shares"] = class_shares(looks["train"].judged[1].argmax(1), total).tolist()
        if looks["samples"].label is not None:
            asked = torch.from_numpy(looks["samples"].label)
            table = confusion(asked, judged, total).tolist()
            right = share(asked == judged, "samples") | {"floor": judge.accuracy}
            found |= {"confusion": table, "swapped": swapped(table)}
            found["metrics"]["asked_class"] = right
            found["per_class"] = self.per_class(looks, judge.classes)
        return found

    def floor(self, cut: "dict[str, Look]") -> dict[str, Json]:
        """What held-out real images get in the samples' place."""
        from embprobe.evaluation.figures import figures

        if "held_out" not in cut:
            return {}
        held = cut["held_out"]
        return figures(held.judged, cut["train"].cut(len(held)).judged, self.k, errors=False, extrapolated=True)

    def per_class(self, looks: "dict[str, Look]", classes: list[str]) -> dict[str, Json]:
        """Each class's samples against that class's real images."""
        from embprobe.evaluation.figures import bare, figures, with_floor

        found: dict[str, Json] = {}
        for index, name in enumerate(classes):
            part = {key: look.where(look.label == index) for key, look in looks.items() if look.label is not None}
            count, floor_count, cut = matched(part)
            found[name] = {"count": count}
            if count < max(LEAST, self.k + 1):
                continue
            values = figures(cut["samples"].judged, cut["train"].judged, self.k)
            floor = self.floor(cut) if floor_count > self.k else {}
            found[name] |= {"floor_count": floor_count} | bare(with_floor(values, floor))
        return found

    def one_by_one(self, looks: "dict[str, Look]") -> dict[str, Json]:
        """For what a denoiser drew: its latents against real ones, and the test for copies in each space.

        The training images are those that the denoiser saw.
        """
        import numpy as np

        from embprobe.evaluation import copies as spaces
        from embprobe.data.split import training_rows

        found: dict[str, Json] = {"latents": {"metrics": {}}, "memorisation": {}}
        if self.samples.stage != "sample" or "held_out" not in looks:
            return found
        assert self.real is not None
        samples, train, held = looks["samples"], looks["train"].rows, looks["held_out"].rows
        there = {
            "pixels": spaces.pixels(self.sets()["samples"], self.reference),
            "judge": spaces.judged(samples.judged[0], self.real),
        }
        denoiser = self.samples.inputs.get("denoiser")
        if denoiser is not None and self.reference in denoiser.lineage():
            used = training_rows(self.reference, denoiser.options["train_images"], denoiser.options["seed"])
            train = np.intersect1d(train, used)
            there["latents"] = spaces.latents(self.samples, samples.rows)
            found["latents"]["metrics"] = spaces.latent_distance(there["latents"], train, held, self.seed)
        if self.memorisation:
            found["memorisation"] = {k: spaces.memorised(v, samples.rows, train, held) for k, v in there.items()}
        return found


def matched(looks: "dict[str, Look]") -> "tuple[int, int, dict[str, Look]]":
    """Equal counts of samples and training images, at most as many held-out ones; both counts, and the sets cut."""
    count = min(len(looks["samples"]), len(looks["train"]))
    floor_count = min(count, len(looks["held_out"])) if "held_out" in looks else count
    return count, floor_count, {k: v.cut(floor_count if k == "held_out" else count) for k, v in looks.items()}


def probed(judge: Artefact | str | None, samples: Artefact) -> bool:
    """Whether the judge is the encoder whose embeddings the samples were drawn from."""
    for artefact in samples.lineage():
        if artefact.stage == "extract":
            encoder = artefact.inputs.get("encoder") or artefact.options["encoder"]
            return encoder == judge
    return False
