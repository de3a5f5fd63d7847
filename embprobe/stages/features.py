"""Features: what a judge sees in images, computed once for every evaluation that needs it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from embprobe.chunks import fill
from embprobe.encoders import names
from embprobe.errors import UserError
from embprobe.stage import Make, Stage, option
from embprobe.store import Artefact, Json
from embprobe.views import HELD_OUT, held_in, split_of

if TYPE_CHECKING:
    import numpy as np

    from embprobe.evaluation.features import ImageRows
    from embprobe.evaluation.judges import Judge

BATCH = 128  # images a forward pass; decides, since a network's rounding depends on it
CHUNK_ROWS = 1024
JUDGES = "a classify artefact, inception, a classifier's weights file or an encoder"


@dataclass(frozen=True, kw_only=True)
class Featurize(Stage):
    """Keep a judge's features of a data set or of samples; `evaluate` makes them by itself.

    A data set's training and held-out images are kept apart, unless --whole; samples are always one set.
    """

    version = 3

    images: Artefact = option(
        "a data set, samples, or a decoder's reconstructions", made_by=("ingest", "sample", "decode")
    )
    judge: Artefact | str = option(JUDGES, made_by=("classify", "pretrain"), words=names.OTHERWISE, path="file")
    size: tuple[int, ...] = option(
        "height and width at which the judge gets the images, in pixels: those of the samples to compare with"
    )
    whole: bool = option("a data set as one set of images, whatever its splits", False)
    held_out: Literal["auto", "val", "test"] = option(HELD_OUT, "auto")
    limit: int = option("most images of each set", 50_000, least=1)
    seed: int = option("seed of which images are used where there are more", 0, least=0)
    weights: Path | None = option("the judge's weights, where it is the name of an encoder", None, derived=True)
    device: str = option("cpu, cuda, cuda:1, …", "auto", runtime=True)

    @classmethod
    def name(cls) -> str:
        """The command is called after what it makes."""
        return "features"

    def resolved(self) -> dict[str, object]:
        size = self.size * 2 if len(self.size) == 1 else self.size
        whole = self.whole or self.images.stage != "ingest"
        return {"size": size, "whole": whole, "held_out": "auto" if whole else split_of(self.images, self.held_out)}

    def validate(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1 or max(self.size) > 8192:
            raise UserError("--size is a height and a width in pixels up to 8192, such as 64 or 32,96")

    def prepare(self, make: Make, *, download: bool) -> Self:
        """With the weights of a hub checkpoint as the file they are, so that they count by content."""
        return replace(self, weights=judge_weights(self.judge, download=download))

    def spec(self) -> dict[str, Json]:
        """An encoder that judges counts by its full name."""
        return super().spec() | judge_name(self.judge)

    def work(self) -> float:
        """Images to look at."""
        return float(held_in(self.images))

    def run(self, out: Artefact) -> None:
        from embprobe.device import device_of
        from embprobe.evaluation.features import image_sets
        from embprobe.evaluation.judges import load_judge

        judge, device = load_judge(self.judge, weights=self.weights), device_of(self.device)
        judge.to(device)
        height, width = self.size
        split = None if self.whole else split_of(self.images, self.held_out)
        sets = image_sets(self.images, (height, width), self.limit, self.seed, split)
        for name, chosen in sets.items():
            out.create(f"{name}_rows", (len(chosen.rows),), "int64").write(chosen.rows)
            self.look(judge, name, chosen, out, device)
        about = {"name": judge.name, "accuracy": judge.accuracy, "classes": judge.classes, "facts": judge.facts}
        about |= {} if judge.factors is None else {"factors": judge.factors}
        out.note(judge=about, size=list(self.size))

    def look(self, judge: "Judge", name: str, chosen: "ImageRows", out: Artefact, device: str) -> None:
        """Writes `NAME_features` (n,F) f32 and, from a classifier, `NAME_probabilities` (n,C)."""

        def outputs(_: range, images: "np.ndarray") -> "list[np.ndarray]":
            output = judge(images, device)
            return [part.numpy() for part in output if part is not None]

        widths = [part.shape[1] for part in outputs(range(1), chosen.read(range(1)))]
        arrays = [
            out.create(f"{name}_{what}", (len(chosen.rows), width), "float32", chunk_rows=CHUNK_ROWS)
            for what, width in zip(("features", "probabilities"), widths, strict=False)
        ]
        fill(arrays, chosen.read, outputs, batch=BATCH, label=f"judging {name.replace('_', ' ')}")


def is_encoder(judge: Artefact | str | None) -> bool:
    """Whether a judge is the name of an encoder: neither an artefact, Inception nor a file."""
    if not isinstance(judge, str) or judge == "inception":
        return False
    return "/" not in judge and not judge.endswith((".pth", ".pt", ".safetensors")) and not Path(judge).is_file()


def judge_weights(judge: Artefact | str, *, download: bool) -> Path | None:
    """The weights file of a judge that is the name of an encoder; None for other judges."""
    return names.hub_file(str(judge), download=download) if is_encoder(judge) else None


def judge_name(judge: Artefact | str | None) -> dict[str, Json]:
    """How a judge that is the name of an encoder counts; nothing for other judges."""
    if not is_encoder(judge):
        return {}
    return {"judge": names.full_name(str(judge)), "family": names.family_version(str(judge))}
