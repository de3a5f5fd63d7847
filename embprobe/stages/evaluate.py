"""Evaluate: samples against real images, as judged networks see them, each figure beside its floor."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from embprobe.errors import UserError
from embprobe.stage import Stage, opt
from embprobe.store import Artefact, Json

if TYPE_CHECKING:
    import numpy as np
    import torch

    from embprobe.judges import Judge, Judged
    from embprobe.looks import Rows

LEAST = 8  # samples a class needs for its own figures


@dataclass(frozen=True, kw_only=True)
class Evaluate(Stage):
    """Measure samples: Fréchet and kernel distance, score, class shares, precision, recall, per class, with floors.

    The reference is the training split; the floor is real held-out images against it. Counts are matched.
    """

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
    k: int = opt("neighbours that span the manifolds of precision and recall", 3)
    limit: int = opt("most samples and reference images used", 50_000)
    seed: int = opt("seed of which images are used where there are more", 0)
    real: Artefact | None = opt("features of the reference; made if not given", None, runtime=True, kinds=("features",))
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
        if not stage.samples.complete or stage.real is not None:
            return stage
        from embprobe.stages.features import Features

        assert stage.judge is not None
        look = Features(
            images=self.reference,
            judge=stage.judge,
            size=stage.samples.metrics["size"],
            limit=self.limit,
            seed=self.seed,
            device=self.device,
        )
        return replace(stage, real=first(look))

    def usual_judge(self, first: Callable[[Stage], Artefact]) -> Artefact | str:
        """The data set's classifier; without classes, Inception."""
        if (self.reference.metrics.get("classes") or 0) > 1:
            from embprobe.stages.classify import Classify

            return first(Classify(images=self.reference, device=self.device))
        from embprobe.judges import inception_there

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
        from embprobe.engine import device_of
        from embprobe.judges import inception_there, load_judge

        assert self.judge is not None
        judges = {"judge": load_judge(self.judge)}
        if self.inception and self.judge != "inception" and inception_there():
            judges["inception"] = load_judge("inception")
        sets = self.sets()
        device = device_of(self.device)
        found = {}
        for name, judge in judges.items():
            real = self.real if name == "judge" else None
            looked = {key: look(judge, name, key, rows, device, out, real) for key, rows in sets.items()}
            found[name] = {"name": judge.name, "accuracy": judge.accuracy, **judge.facts} | self.measure(
                judge, looked, sets
            )
            found[name]["weak"] = judge.accuracy is not None and judge.accuracy < 0.9
        for key, rows in sets.items():
            out.create(f"{key}_rows", (len(rows.rows),), "int64").write(rows.rows)
        out.write_json("metrics.json", {"judges": found, "protocol": self.protocol(sets)})
        first = found["judge"]
        out.note(judge=first["name"], weak=first["weak"], count=first["count"])
        out.note(**{k: v["value"] for k, v in first["metrics"].items()})

    # -- which images

    def sets(self) -> "dict[str, Rows]":
        """Samples, the training images they are compared with, and held-out images for the floor."""
        from embprobe.looks import Rows, splits, spread

        made = sample_rows(self.samples, self.limit, self.seed)
        parts = splits(self.reference.array("split").read())
        train, held = parts["train"], parts["held_out"]
        images = self.reference.array("images")
        label = self.reference.array("label").read() if self.reference.has("label") else None
        size = made.images.shape[1]

        def real(rows: "np.ndarray") -> "Rows":
            kept = spread(rows, min(self.limit, len(made.rows)), self.seed)
            return Rows(images, kept, label[kept] if label is not None else None, size)

        if len(made.rows) <= self.k or len(train) <= self.k:
            raise UserError(
                f"{len(made.rows)} samples and {len(train)} training images; both must be more than --k {self.k}"
            )
        found = {"samples": made, "train": real(train)}
        if len(held) > self.k:
            found["held_out"] = real(held)
        return found

    def protocol(self, sets: "dict[str, Rows]") -> dict[str, Json]:
        """How the figures were taken."""
        return {
            "counts": {k: len(v.rows) for k, v in sets.items()},
            "pixels": f"both sets at {sets['samples'].size} px, antialiased bicubic, u8, then the judge's own resize",
            "reference": "training split",
            "floor": "held-out real images in the place of the samples",
            "k": self.k,
            "score": "one split over all samples",
            "intervals": "95 %: delete-group jackknife over samples (20 groups) for FD, KID, IS, TV; Wilson over queries with "
            "the manifold kept for precision and recall",
        }

    # -- figures

    def measure(self, judge: "Judge", looked: "dict[str, Judged]", sets: "dict[str, Rows]") -> dict[str, Json]:
        """Every metric of the samples with its interval and floor, then the same per class."""
        from embprobe.metrics.scores import class_shares, confusion

        count = min(len(looked["samples"][0]), len(looked["train"][0]))
        train = cut(looked["train"], count)
        made = figures(cut(looked["samples"], count), train, self.k, errors=True, extrapolated=True)
        floor: dict[str, Json] = {}
        if "held_out" in looked:
            floor_count = min(count, len(looked["held_out"][0]))
            held, train = cut(looked["held_out"], floor_count), cut(looked["train"], floor_count)
            floor = figures(held, train, self.k, errors=False, extrapolated=True)
        found: dict[str, Json] = {"count": count, "floor_count": min(count, len(looked.get("held_out", train)[0]))}
        found["metrics"] = {k: {**v, "floor": floor.get(k, {}).get("value")} for k, v in made.items()}
        found["features"] = int(train[0].shape[1])
        if judge.classes is None or looked["samples"][1] is None:
            found["metrics"].pop("tv", None)
            return found
        judged = looked["samples"][1].argmax(1)
        total = len(judge.classes)
        found["classes"] = judge.classes
        found["shares"] = class_shares(judged, total).tolist()
        assert looked["train"][1] is not None
        found["real_shares"] = class_shares(looked["train"][1].argmax(1), total).tolist()
        asked = sets["samples"].label
        if asked is not None:
            import torch

            from embprobe.metrics.intervals import wilson

            table = confusion(torch.from_numpy(asked), judged, total)
            right = int(table.trace())
            low, high = wilson(right, len(judged))
            found["confusion"] = table.tolist()
            found["metrics"]["asked_class"] = {
                "value": right / len(judged),
                "low": low,
                "high": high,
                "floor": judge.accuracy,
            }
            found["per_class"] = self.per_class(looked, sets, judge.classes)
        return found

    def per_class(self, looked: "dict[str, Judged]", sets: "dict[str, Rows]", classes: list[str]) -> dict[str, Json]:
        """Each class's samples against that class's real images."""
        import torch

        found: dict[str, Json] = {}
        for index, name in enumerate(classes):
            part: dict[str, tuple[torch.Tensor, None]] = {}
            for key, rows in sets.items():
                assert rows.label is not None
                part[key] = (looked[key][0][torch.from_numpy(rows.label == index)], None)
            count = min(len(part["samples"][0]), len(part["train"][0]))
            if count < max(LEAST, self.k + 1):
                found[name] = {"count": count}
                continue
            values = figures(cut(part["samples"], count), cut(part["train"], count), self.k, errors=False)
            floor_count = min(count, len(part["held_out"][0])) if "held_out" in part else 0
            floor = {}
            if floor_count > self.k:
                floor = figures(
                    cut(part["held_out"], floor_count), cut(part["train"], floor_count), self.k, errors=False
                )
            found[name] = {"count": count, "floor_count": floor_count} | {
                k: {**v, "floor": floor.get(k, {}).get("value")} for k, v in values.items()
            }
        return found


def sample_rows(samples: Artefact, limit: int, seed: int) -> "Rows":
    """The images to be measured: samples, a decoder's reconstructions, or a data set's held-out images."""
    import numpy as np

    from embprobe.looks import Rows, spread

    name = "reconstructions" if samples.stage == "decode" else "images"
    images = samples.array(name)
    label = samples.array("label").read() if samples.stage != "decode" and samples.has("label") else None
    rows = np.arange(len(images))
    if samples.stage == "ingest":
        held = np.nonzero(samples.array("split").read() == 1)[0]
        rows = held if len(held) else rows
    kept = spread(rows, limit, seed)
    return Rows(images, kept, label[kept] if label is not None else None, images.shape[1])


def look(
    judge: "Judge", name: str, key: str, rows: "Rows", device: str, out: Artefact, real: Artefact | None
) -> "Judged":
    """Features and probabilities of a set: of real images from what was kept, else computed here and kept."""
    import numpy as np

    from embprobe.looks import keep, seen

    if real is not None and key != "samples":
        return seen(real, key, np.searchsorted(real.array(f"{key}_rows").read(), rows.rows))
    keep(judge, f"{name}_{key}", rows, device, out)
    return seen(out, f"{name}_{key}", np.arange(len(rows.rows)))


def cut(looked: "Judged", count: int) -> "Judged":
    """The same seeded choice of `count` images, whatever the set."""
    import torch

    if len(looked[0]) <= count:
        return looked
    kept = torch.randperm(len(looked[0]), generator=torch.Generator().manual_seed(0))[:count].sort().values
    return looked[0][kept], None if looked[1] is None else looked[1][kept]


def figures(
    made: "Judged", real: "Judged", k: int, *, errors: bool, extrapolated: bool = False
) -> dict[str, Any]:  # Any: JSON
    """Every metric of one set against another of equal size, with 95 % intervals where `errors`, FD∞ where `extrapolated`."""
    from embprobe.metrics.frechet import frechet_distance, frechet_infinity, frechet_jackknife
    from embprobe.metrics.intervals import centred, group_of, jackknife_error, wilson
    from embprobe.metrics.kernel import kernel_distance, kernel_jackknife
    from embprobe.metrics.manifold import precision_recall

    x, y = made[0], real[0]
    found: dict[str, Any] = {}

    def put(name: str, value: float, error: float | None) -> None:
        low, high = centred(value, error) if error is not None else (None, None)
        found[name] = {"value": value, "low": low, "high": high}

    groups = min(20, len(x) // 2)
    member = group_of(len(x), groups)
    errors_of: dict[str, float | None] = {"fd": None, "kid": None}
    if errors:
        errors_of["fd"] = jackknife_error(frechet_jackknife(x, y, member, groups))
        errors_of["kid"] = jackknife_error(kernel_jackknife(x, y, member, groups))
    put("fd", frechet_distance(x, y), errors_of["fd"])
    if extrapolated:
        put("fd_infinity", frechet_infinity(x, y), None)
        found["fd_infinity"]["reliable"] = min(len(x), len(y)) >= 4 * x.shape[1]
    put("kid", kernel_distance(x, y), errors_of["kid"])
    precise, recalled = precision_recall(y, x, k)
    for name, hits in (("precision", precise), ("recall", recalled)):
        low, high = wilson(int(hits.sum()), len(hits))
        found[name] = {"value": float(hits.double().mean()), "low": low, "high": high}
    if made[1] is not None and real[1] is not None:
        judged_scores(made[1], real[1], errors, put)
    return found


def judged_scores(
    made: "torch.Tensor", real: "torch.Tensor", errors: bool, put: Callable[[str, float, float | None], None]
) -> None:
    """The Inception-style score and the total variation of judged class shares."""
    from embprobe.metrics.intervals import jackknife
    from embprobe.metrics.scores import class_shares, inception_score, total_variation

    classes = made.shape[1]
    shares = class_shares(real.argmax(1), classes)
    judged = made.argmax(1)

    def variation(rows: "torch.Tensor") -> float:
        return total_variation(class_shares(judged[rows], classes), shares)

    put("score", inception_score(made), jackknife(lambda r: inception_score(made[r]), len(made)) if errors else None)
    put(
        "tv",
        total_variation(class_shares(judged, classes), shares),
        jackknife(variation, len(made)) if errors else None,
    )
