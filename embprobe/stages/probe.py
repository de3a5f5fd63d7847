"""Probe: what simple readers find in embeddings (N,*grid,D): classes, pixels, and the factors scenes were drawn from."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from embprobe.errors import UserError
from embprobe.stage import Stage, option
from embprobe.store import Artefact, Json
from embprobe.views import HELD_OUT, Embeddings, held_in, split_of

if TYPE_CHECKING:
    from embprobe.evaluation.readers import ProbeRows


@dataclass(frozen=True, kw_only=True)
class Probe(Stage):
    """Measure what linear maps and neighbours read from frozen embeddings.

    Linear and k-NN accuracy of the classes on mean tokens, pixel R² by ridge from each token to its own patch, and R²
    or accuracy for each planted factor, from the mean token and from the full grid. Fitted on the training split,
    measured on the held-out one: linear readability, which is less than what is kept. Strengths of ridge are chosen on
    training images left out in folds, that of the classes on a fifth.
    """

    version = 3

    embeddings: Artefact = option("an extract artefact", made_by=("extract",))
    k: int = option("neighbours of the k-NN, by cosine of mean tokens", 20, least=1, most=1000)
    train_limit: int = option(
        "images to fit on at most, a seeded choice (the full grid takes at most 4000)", 50_000, least=20
    )
    held_out: Literal["auto", "val", "test"] = option(HELD_OUT, "auto")
    seed: int = option("seed of the folds that choose strengths, and of --train-limit", 0, least=0)
    device: str = option("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def resolved(self) -> dict[str, object]:
        if not self.embeddings.complete:
            return {}
        return {"held_out": split_of(Embeddings(self.embeddings).images.artefact, self.held_out)}

    def check(self) -> None:
        images = Embeddings(self.embeddings).images
        train, held = images.count("train"), images.count(self.held_out)
        if train < 20 or held < 2:
            raise UserError(
                f"{train} training and {held} held-out images are too few to probe; ingest at least 20 and 2 "
                "(--val-share holds some out)"
            )

    def work(self) -> float:
        """Images to read."""
        return float(held_in(self.embeddings))

    def run(self, out: Artefact) -> None:
        if not out.has("probe.json"):
            out.write_json("probe.json", self.results())
        results = out.read_json("probe.json")
        out.note(**{name: results[name]["value"] for name in ("linear", "knn", "pixel_r2") if name in results})
        if "factors" in results:
            out.note(
                factors={
                    name: {where: facts[where]["value"] for where in ("pooled", "grid")}
                    for name, facts in results["factors"].items()
                }
            )

    def results(self) -> dict[str, Json]:
        """What every reader finds; those that need classes or planted factors where there are some."""
        from embprobe.device import device_of
        from embprobe.evaluation import readers

        embeddings = Embeddings(self.embeddings)
        images = embeddings.images
        data = readers.ProbeRows.of(embeddings, self.train_limit, self.seed, device_of(self.device), self.held_out)
        results: dict[str, Json] = {"protocol": self.protocol(data)}
        results["pixel_r2"], pooled = readers.pixels_and_means(data)
        if images.labels is not None and len(images.classes) > 1:
            results |= readers.read_classes(data, pooled, images.labels, len(images.classes), self.k)
        if images.factors is not None:
            results["factors"] = readers.read_factors(data, pooled, *images.factors)
        return results

    def protocol(self, data: "ProbeRows") -> dict[str, Json]:
        """How the figures were taken."""
        from embprobe.evaluation.readers import GRID_ROWS

        return {
            "train": len(data.train),
            "train_grid": len(data.train[:GRID_ROWS]),
            "held_out": len(data.held),
            "split": self.held_out,
            "k": self.k,
            "pooled": "mean of all tokens, standardised by the training images",
            "grid": "all tokens of an image side by side",
            "intervals": "95 %: Wilson for shares, delete-group jackknife over held-out images for R² (20 groups)",
        }
