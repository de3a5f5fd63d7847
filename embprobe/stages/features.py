"""Features: what a judge sees in a data set's images, computed once for every evaluation that needs it."""

from dataclasses import dataclass

from embprobe.errors import UserError
from embprobe.stage import Stage, opt
from embprobe.store import Artefact


@dataclass(frozen=True, kw_only=True)
class Features(Stage):
    """Keep a judge's features of real images; `evaluate` makes it by itself."""

    images: Artefact = opt("an ingested data set, or a folder or zip to ingest first", kinds=("ingest",))
    judge: Artefact | str = opt(
        "a classify artefact, inception, a classifier's weights file or an encoder",
        kinds=("classify", "pretrain"),
        path="file",
    )
    size: int = opt("side at which the judge gets the images, in pixels: that of the samples to compare with")
    limit: int = opt("most images of each split", 50_000)
    seed: int = opt("seed of which images are used where there are more", 0)
    device: str = opt("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def __post_init__(self) -> None:
        for name in ("size", "limit"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be at least 1")

    def work(self) -> float:
        return float(self.images.metrics["count"]) if self.images.complete else 0.0

    def run(self, out: Artefact) -> None:
        from embprobe.engine import device_of
        from embprobe.judges import load_judge
        from embprobe.looks import Rows, keep, splits, spread

        judge, device = load_judge(self.judge), device_of(self.device)
        images, split = self.images.array("images"), self.images.array("split").read()
        for key, rows in splits(split).items():
            kept = spread(rows, self.limit, self.seed)
            if len(kept):
                out.create(f"{key}_rows", (len(kept),), "int64").write(kept)
                keep(judge, key, Rows(images, kept, None, self.size), device, out)
        out.note(judge=judge.name, size=self.size)
