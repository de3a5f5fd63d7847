"""Read: what one reader finds in embeddings (N,*grid,D); `probe` puts readers side by side."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from embprobe.errors import UserError
from embprobe.evaluation.needs import LEAST, NEEDS, OWN, USUAL, Reader, Reading, fits
from embprobe.stage import Make, option
from embprobe.stages.ceiling import Ceiling
from embprobe.store import Artefact, Json
from embprobe.training.stage import Training
from embprobe.views import Embeddings, held_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from embprobe.evaluation.readers import ProbeRows


@dataclass(frozen=True, kw_only=True)
class Read(Reading, Training):
    """Keep what one reader finds in frozen embeddings; `probe` makes them by itself, for each reader.

    `linear` and `knn`: accuracy of the classes on mean tokens. `pixels`: R² by ridge from each token to its own patch.
    `factors`: R² or accuracy for each planted factor, from the mean token and from the full grid. `attentive`: a learned
    query that looks at all tokens, a small network on what it sees. `low-shot`: the linear probe with 1 % and 10 % of the
    labels, over several draws. `dense`: of planted scenes with several creatures how many there are, how far the nearest
    is, each patch's depth and kind, by ridge from tokens, beside what `ceiling` reads from pixels. `fine-tune`: the
    last blocks and a linear head, trained from the images. `geometry`: effective rank of tokens, how their cosine falls
    with distance on the grid, CKA with another encoder. `retrieval`: how often the nearest caption is an image's own, and
    the nearest image one of a caption's own, by the text encoder of --text. Fitted on the training split, measured on the
    held-out one. An option that a reader does not take is refused.
    """

    reader: Reader = option("what reads")
    batch: int = option("images per step of readers that train", None, least=1, most=65_536)
    rate: float = option("learning rate of AdamW at its peak, of readers that train", None, above=0)

    ceiling: Artefact | None = option("what is read from pixels", None, derived=True, made_by=("ceiling",))

    def resolved(self) -> dict[str, object]:
        usual = {k: v for k, v in USUAL.get(self.reader, {}).items() if getattr(self, k) is None}
        return super().resolved() | usual

    def validate(self) -> None:
        self.check_readers((self.reader,))

    def prepare(self, make: Make, *, download: bool) -> Self:
        """With the ceiling of dense tasks."""
        if self.reader != "dense" or not self.embeddings.complete:
            return self
        embeddings = Embeddings(self.embeddings)
        if embeddings.images.scenes is None or len(embeddings.grid) != 2:
            return self
        ceiling = Ceiling(
            images=embeddings.images.artefact,
            grid=embeddings.grid,
            train_limit=self.train_limit,
            held_out=self.held_out,
            seed=self.seed,
            steps=self.steps,
            device=self.device,
            deterministic=self.deterministic,
        )
        return replace(self, ceiling=make(ceiling))

    def spec(self) -> dict[str, Json]:
        """Without what this reader does not take."""
        spec = super().spec()
        return {k: v for k, v in spec.items() if k not in OWN or k in NEEDS[self.reader].options}

    def check(self) -> None:
        images = Embeddings(self.embeddings).images
        fitted = images if self.train_on is None else Embeddings(self.train_on).images
        if not fits(self.reader, images):
            raise UserError(
                f"reader {self.reader} needs {NEEDS[self.reader].images}, and ingest {images.short} has none; leave it out"
            )
        captioned = self.reader == "retrieval"
        train, held = (
            images.captioned(split) if captioned else of.count(split)
            for of, split in ((fitted, "train"), (images, self.held_out))
        )
        if train < LEAST[0] or held < LEAST[1]:
            what = "images with a caption" if captioned else "images"
            raise UserError(
                f"{train} training and {held} held-out {what} are too few to probe; ingest at least {LEAST[0]} and "
                f"{LEAST[1]} (--val-share holds some out)"
            )
        self.check_others()

    def check_others(self) -> None:
        """Raises UserError where other embeddings are not of the same encoder, or not of the same images."""
        embeddings = Embeddings(self.embeddings)
        if self.train_on is not None:
            other = Embeddings(self.train_on)
            ours, theirs = (
                {k: v for k, v in a.spec.items() if k != "images"} for a in (self.embeddings, self.train_on)
            )
            if ours != theirs or (embeddings.grid, embeddings.width) != (other.grid, other.width):
                raise UserError(f"--train-on: {self.train_on.short} was made by another encoder; give one of the same")
            if len(embeddings.images.shared_classes(other.images)) < 2:
                raise UserError(
                    f"--train-on: {self.train_on.short} shares fewer than two classes with {self.embeddings.short}; classes "
                    "are matched by name"
                )
        if self.beside is not None and Embeddings(self.beside).images != embeddings.images:
            raise UserError(f"--beside: {self.beside.short} is of other images; give embeddings of the same ones")

    def work(self) -> float:
        """Images to read, and those of each step."""
        return float(held_in(self.embeddings)) + (super().work() if self.batch else 0.0)

    def run(self, out: Artefact) -> None:
        if not out.has("read.json"):
            out.write_json("read.json", self.results(out))
        found = out.read_json("read.json")
        out.note(**{name: facts["value"] for name, facts in found.items() if "value" in facts})

    def results(self, out: Artefact) -> dict[str, Json]:
        """What the reader finds, and how."""
        data = self.rows()
        found = READ[self.reader](self, data, out)
        counts: dict[str, Json] = {"train": len(data.train), "held_out": len(data.held), "split": self.held_out}
        return found | {"protocol": counts | found.get("protocol", {})}

    def training_words(self, data: "ProbeRows") -> str:
        """How a network was trained, for the protocol."""
        epochs = self.steps * self.batch / len(data.train)
        return f"{self.steps} steps of {self.batch}, {epochs:.3g} epochs, AdamW at {self.rate:g} with weight decay 0.05"

    def rows(self) -> "ProbeRows":
        """The images that are fitted on, and those that are measured."""
        from embprobe.device import device_of
        from embprobe.evaluation.readers import ProbeRows

        fitted = None if self.train_on is None else Embeddings(self.train_on)
        device = device_of(self.device, deterministic=self.deterministic)
        return ProbeRows.of(Embeddings(self.embeddings), self.train_limit, self.seed, device, self.held_out, fitted)


# ---- each reader


def _linear(stage: Read, data: "ProbeRows", out: Artefact) -> dict[str, Json]:
    from embprobe.evaluation.readers import read_linear

    return read_linear(data)


def _knn(stage: Read, data: "ProbeRows", out: Artefact) -> dict[str, Json]:
    from embprobe.evaluation.readers import read_neighbours

    return read_neighbours(data, stage.k) | {"protocol": {"k": stage.k}}


def _pixels(stage: Read, data: "ProbeRows", out: Artefact) -> dict[str, Json]:
    from embprobe.evaluation.readers import read_pixels

    return read_pixels(data)


def _factors(stage: Read, data: "ProbeRows", out: Artefact) -> dict[str, Json]:
    from embprobe.evaluation.readers import GRID_ROWS, read_factors

    assert data.embeddings.images.factors is not None
    found = read_factors(data, *data.embeddings.images.factors)
    return found | {"protocol": {"train_grid": len(data.train[:GRID_ROWS])}}


def _attentive(stage: Read, data: "ProbeRows", out: Artefact) -> dict[str, Json]:
    from embprobe.evaluation.trained import attending, judge_tokens, token_batches
    from embprobe.training.engine import warmup_cosine

    batches, rate = token_batches(data, stage.batch, stage.seed), warmup_cosine(max(1, stage.steps // 10), stage.steps)
    build = partial(attending, data, stage.rate)
    network = stage.train(build, batches, rate, out, label="training the attentive probe", milestones=False)
    return {"attentive": judge_tokens(data, network), "protocol": {"attentive": stage.training_words(data)}}


def _low_shot(stage: Read, data: "ProbeRows", out: Artefact) -> dict[str, Json]:
    from embprobe.evaluation.low_shot import read_low_shot

    return read_low_shot(data, stage.draws, stage.seed) | {"protocol": {"draws": stage.draws}}


def _fine_tune(stage: Read, data: "ProbeRows", out: Artefact) -> dict[str, Json]:
    from embprobe.evaluation.trained import image_batches, judge_images, tuning
    from embprobe.training.engine import warmup_cosine

    task = tuning(data, stage.blocks, stage.rate, stage.seed)
    batches, rate = image_batches(data, stage.batch, stage.seed), warmup_cosine(max(1, stage.steps // 10), stage.steps)
    stage.train(lambda: task, batches, rate, out, label="fine-tuning", milestones=False)
    words = f"{stage.blocks} of the last blocks, {stage.training_words(data)}, images as they are"
    return {"fine_tune": judge_images(data, task), "protocol": {"fine-tune": words}}


def _geometry(stage: Read, data: "ProbeRows", out: Artefact) -> dict[str, Json]:
    from embprobe.evaluation.geometry import read_geometry

    return read_geometry(data, None if stage.beside is None else Embeddings(stage.beside))


def _dense(stage: Read, data: "ProbeRows", out: Artefact) -> dict[str, Json]:
    from embprobe.evaluation.dense import read_dense

    assert stage.ceiling is not None
    return read_dense(data, stage.ceiling.read_json("ceiling.json", dict))


def _retrieval(stage: Read, data: "ProbeRows", out: Artefact) -> dict[str, Json]:
    from embprobe.evaluation.retrieval import read_retrieval

    assert stage.text is not None
    return read_retrieval(data, Path(stage.text))


READ: "dict[Reader, Callable[[Read, ProbeRows, Artefact], dict[str, Json]]]" = {
    "linear": _linear,
    "knn": _knn,
    "pixels": _pixels,
    "factors": _factors,
    "attentive": _attentive,
    "low-shot": _low_shot,
    "fine-tune": _fine_tune,
    "dense": _dense,
    "geometry": _geometry,
    "retrieval": _retrieval,
}
