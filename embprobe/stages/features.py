"""Features: what a judge sees in images, computed once for every evaluation that needs it."""

from dataclasses import dataclass

from embprobe.errors import UserError
from embprobe.stage import Stage, opt
from embprobe.store import Artefact


@dataclass(frozen=True, kw_only=True)
class Features(Stage):
    """Keep a judge's features of a data set or of samples; `evaluate` makes them by itself.

    A data set's training and held-out images are kept apart, unless --whole; samples are always one set.
    """

    images: Artefact = opt("a data set, samples, or a decoder's reconstructions", kinds=("ingest", "sample", "decode"))
    judge: Artefact | str = opt(
        "a classify artefact, inception, a classifier's weights file or an encoder",
        kinds=("classify", "pretrain"),
        path="file",
    )
    size: int = opt("side at which the judge gets the images, in pixels: that of the samples to compare with")
    whole: bool = opt("a data set as one set of images, whatever its splits", False)
    limit: int = opt("most images of each set", 50_000)
    seed: int = opt("seed of which images are used where there are more", 0)
    device: str = opt("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def __post_init__(self) -> None:
        for name in ("size", "limit"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be at least 1")

    def work(self) -> float:
        return float(self.images.metrics.get("count") or 0) if self.images.complete else 0.0

    def run(self, out: Artefact) -> None:
        from embprobe.training.engine import device_of
        from embprobe.evaluation.judges import load_judge
        from embprobe.evaluation.features import Rows, keep, splits, spread, whole

        judge, device = load_judge(self.judge), device_of(self.device)
        if self.whole or self.images.stage != "ingest":
            rows = whole(self.images, self.limit, self.seed)
            sets = {"samples": Rows(rows.images, rows.rows, None, self.size)}
        else:
            images, split = self.images.array("images"), self.images.array("split").read()
            parts = {key: spread(rows, self.limit, self.seed) for key, rows in splits(split).items()}
            sets = {key: Rows(images, rows, None, self.size) for key, rows in parts.items() if len(rows)}
        for key, chosen in sets.items():
            out.create(f"{key}_rows", (len(chosen.rows),), "int64").write(chosen.rows)
            keep(judge, key, chosen, device, out)
        out.note(judge=judge.name, size=self.size)
