"""The readers of embeddings by name: what each takes beside them, and what the images must have."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from embprobe.encoders.names import caption_files
from embprobe.errors import UserError
from embprobe.stage import Stage, dashed, fields_of, option
from embprobe.store import Artefact, Json
from embprobe.views import HELD_OUT, Embeddings, Images, split_of

Reader = Literal[
    "linear", "knn", "pixels", "factors", "attentive", "low-shot", "fine-tune", "dense", "geometry", "retrieval"
]
TRAINED = ("steps", "batch", "rate", "precision")  # options of readers that train
USUAL: dict[str, dict[str, object]] = {
    "attentive": {"steps": 2000, "batch": 64, "rate": 1e-3},
    "fine-tune": {"steps": 1000, "batch": 64, "rate": 3e-4},
    "dense": {"steps": 1500},
}
LEAST = (20, 2)  # training and held-out images


@dataclass(frozen=True)
class Needs:
    """What a reader takes beside the embeddings: options of its own, and what the images must have."""

    options: tuple[str, ...] = ()
    images: Literal["classes", "factors", "scenes of several creatures", "captions", "nothing"] = "nothing"


NEEDS: dict[Reader, Needs] = {
    "linear": Needs(("train_on",), "classes"),
    "knn": Needs(("k", "train_on"), "classes"),
    "pixels": Needs(),
    "factors": Needs(images="factors"),
    "attentive": Needs(("train_on", *TRAINED), "classes"),
    "low-shot": Needs(("draws", "train_on"), "classes"),
    "fine-tune": Needs(("blocks", *TRAINED), "classes"),
    "dense": Needs(("steps", "ceiling"), images="scenes of several creatures"),
    "geometry": Needs(("beside",)),
    "retrieval": Needs(("text",), "captions"),
}
OWN = {option for needs in NEEDS.values() for option in needs.options}


def fits(reader: Reader, images: Images) -> bool:
    """Whether the images have what the reader finds."""
    there = {
        "classes": len(images.classes) > 1,
        "factors": images.factors is not None,
        "scenes of several creatures": images.scenes is not None,
        "captions": images.is_captioned,
        "nothing": True,
    }
    return there[NEEDS[reader].images]


@dataclass(frozen=True, kw_only=True)
class Reading(Stage):
    """What `read` and `probe` are asked alike: embeddings, and the options of readers."""

    embeddings: Artefact = option("an extract artefact", made_by=("extract",))
    train_on: Artefact | None = option(
        "fit on these embeddings of another data set, by the same encoder, and measure the classes that both have",
        None,
        made_by=("extract",),
    )
    beside: Artefact | None = option(
        "another encoder's embeddings of the same images, whose likeness `geometry` measures",
        None,
        made_by=("extract",),
    )
    text: str | None = option(
        "the folder of a text encoder that transformers saved, by which `retrieval` reads captions",
        None,
        path="folder",
        later=True,
    )
    blocks: int = option("last blocks of the encoder that `fine-tune` trains", 1, least=1, most=1000)
    k: int = option("neighbours of `knn`, by cosine of mean tokens", 20, least=1, most=1000)
    draws: int = option("draws of the few labels of `low-shot`", 5, least=2, most=1000)
    train_limit: int = option(
        "images to fit on at most, a seeded choice (the full grid takes at most 4000)", 50_000, least=20
    )
    held_out: Literal["auto", "val", "test"] = option(HELD_OUT, "auto")
    steps: int = option("optimiser steps of readers that train, and of the ceiling of `dense`", None, least=1)
    seed: int = option("seed of --train-limit, folds, draws, initialisation and batches", 0, least=0)

    def resolved(self) -> dict[str, object]:
        """With the split that is read, as soon as the embeddings are there, and a folder's absolute path."""
        images = Embeddings(self.embeddings).images.artefact if self.embeddings.complete else None
        held_out = self.held_out if images is None else split_of(images, self.held_out)
        text: dict[str, object] = {} if self.text is None else {"text": str(Path(self.text).expanduser().absolute())}
        return {"held_out": held_out} | text

    def spec(self) -> dict[str, Json]:
        """With the content of a text encoder's folder."""
        return super().spec() | ({} if self.text is None else {"text": dict(caption_files(Path(self.text)))})

    def check_readers(self, readers: tuple[Reader, ...]) -> None:
        """Raises UserError for an option that none of the readers takes, and for captions without a text encoder."""
        taken = {name for reader in readers for name in NEEDS[reader].options}
        for field in fields_of(type(self)):
            if field.name in OWN - taken and getattr(self, field.name) != field.default:
                who = [reader for reader, needs in NEEDS.items() if field.name in needs.options]
                raise UserError(
                    f"{dashed(field.name)} has no meaning for reader {', '.join(readers)}, only for {', '.join(who)}; "
                    "leave it out"
                )
        if "retrieval" in readers and self.text is None:
            raise UserError("reader retrieval needs a text encoder; give the folder of one with --text")
        if self.text is not None and not Path(self.text).is_dir():
            raise UserError(f"--text {self.text} is no folder with a text encoder; check the path")
