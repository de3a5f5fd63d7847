"""Probe: what simple readers find in embeddings (N,*grid,D): classes, pixels, and the factors scenes were drawn from."""

from dataclasses import dataclass, replace
from typing import Self

from embprobe.evaluation.needs import NEEDS, Reader, Reading, fits
from embprobe.stage import Make, option
from embprobe.stages.read import Read
from embprobe.store import Artefact, Json
from embprobe.views import Embeddings, held_in

USUAL: tuple[Reader, ...] = ("linear", "knn", "pixels", "factors")
PROTOCOL = {
    "pooled": "mean of all tokens, standardised by the training images",
    "grid": "all tokens of an image side by side",
    "intervals": "95 %: Wilson for shares, delete-group jackknife over held-out images for R² (20 groups)",
}


@dataclass(frozen=True, kw_only=True)
class Probe(Reading):
    """Measure what simple readers find in frozen embeddings, each beside the others.

    What `read` finds by each reader, in one table. A reader added later computes itself alone. Fitted on the training
    split, measured on the held-out one: simple readability, which is less than what is kept. Strengths of ridge are
    chosen on training images left out in folds, that of the classes on a fifth.
    """

    version = 4

    readers: tuple[Reader, ...] = option(
        f"with commas between, of {', '.join(NEEDS)}; left out: {', '.join(USUAL)}, as far as the images have what they read",
        (),
    )
    read: tuple[Artefact, ...] = option("what each reader finds", (), derived=True, made_by=("read",))
    device: str = option("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def resolved(self) -> dict[str, object]:
        readers = self.readers
        if not readers and self.embeddings.complete:
            images = Embeddings(self.embeddings).images
            fitting = tuple(r for r in USUAL if fits(r, images))
            readers = tuple(r for r in fitting if self.train_on is None or "train_on" in NEEDS[r].options)
        readers = tuple(r for r in NEEDS if r in readers)
        return super().resolved() | {"readers": readers}

    def validate(self) -> None:
        if self.readers:
            self.check_readers(self.readers)

    def prepare(self, make: Make, *, download: bool) -> Self:
        """With what each reader finds."""
        if not self.embeddings.complete:
            return self
        plain = Read(
            embeddings=self.embeddings,
            reader="pixels",
            train_limit=self.train_limit,
            held_out=self.held_out,
            seed=self.seed,
            device=self.device,
        )
        own = {r: {n: getattr(self, n) for n in NEEDS[r].options if hasattr(self, n)} for r in self.readers}
        return replace(self, read=tuple(make(replace(plain, reader=r, **own[r])) for r in self.readers))

    def work(self) -> float:
        """Images to read."""
        return float(held_in(self.embeddings))

    def run(self, out: Artefact) -> None:
        protocol: dict[str, Json] = {}
        results: dict[str, Json] = {}
        for part in self.read:
            found = part.read_json("read.json", dict)
            protocol |= found.pop("protocol")
            results |= found
        results["protocol"] = protocol | PROTOCOL
        out.write_json("probe.json", results)
        out.note(**{name: facts["value"] for name, facts in results.items() if "value" in facts})
        if "factors" in results:
            out.note(
                factors={
                    name: {where: facts[where]["value"] for where in ("pooled", "grid")}
                    for name, facts in results["factors"].items()
                }
            )
