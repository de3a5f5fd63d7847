"""The readers of embeddings by name: what each takes beside them, and what the images must have."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from embprobe.encoders.names import caption_files
from embprobe.errors import UserError
from embprobe.stage import Stage, dashed, fields_of, option
from embprobe.store import Json
from embprobe.views import Images

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


def refuse_others(stage: Stage, readers: tuple[Reader, ...]) -> None:
    """Raises UserError for an option that none of the readers takes."""
    taken = {name for reader in readers for name in NEEDS[reader].options}
    for field in fields_of(type(stage)):
        if field.name in OWN - taken and getattr(stage, field.name) != field.default:
            who = [reader for reader, needs in NEEDS.items() if field.name in needs.options]
            raise UserError(
                f"{dashed(field.name)} has no meaning for reader {', '.join(readers)}, only for {', '.join(who)}; leave it out"
            )


# ---- the folder of a text encoder


def text_option() -> Any:  # Any: as `option`
    """The option --text of `read` and `probe`."""
    return option(
        "the folder of a text encoder that transformers saved, by which `retrieval` reads captions",
        None,
        path="folder",
        later=True,
    )


def check_text(text: str | None, readers: tuple[Reader, ...]) -> None:
    """Raises UserError where captions are to be read, and no folder of a text encoder is given."""
    if "retrieval" in readers and text is None:
        raise UserError("reader retrieval needs a text encoder; give the folder of one with --text")
    if text is not None and not Path(text).is_dir():
        raise UserError(f"--text {text} is no folder with a text encoder; check the path")


def text_path(text: str | None) -> dict[str, object]:
    """The folder's absolute path, to ask the same again."""
    return {} if text is None else {"text": str(Path(text).expanduser().absolute())}


def text_content(text: str | None) -> dict[str, Json]:
    """What the folder counts by."""
    return {} if text is None else {"text": dict(caption_files(Path(text)))}
