"""Folders of tiny images, a toy stage, and options that keep every stage small."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from embprobe import signals
from embprobe.stage import Stage, option
from embprobe.store import Artefact

ENCODER = "random:vit-16x1-h2-p4"
# Any: options of several types
PRETRAIN: dict[str, Any] = {
    "width": 16, "depth": 1, "heads": 2, "patch": 4, "predictor_width": 8, "predictor_depth": 1,
    "steps": 6, "batch": 8, "device": "cpu",
}  # fmt: skip
COMPRESS: dict[str, Any] = {"channels": 3, "steps": 12, "batch": 8, "device": "cpu"}
DIFFUSE: dict[str, Any] = {"width": 8, "steps": 9, "batch": 8, "device": "cpu"}
DECODE: dict[str, Any] = {"width": 8, "steps": 4, "batch": 4, "perceptual": "none", "device": "cpu"}
CLASSIFY: dict[str, Any] = {"steps": 4, "batch": 8, "device": "cpu"}
SAMPLE: dict[str, Any] = {"count": 24, "steps": 3, "device": "cpu"}


def picture(path: Path, seed: int, size: int = 16) -> Path:
    """One image of noise."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size, size, 3), np.uint8)).save(path)
    return path


def flat_folder(folder: Path, count: int) -> Path:
    """A folder of images without classes."""
    for index in range(count):
        picture(folder / f"{index:03d}.png", index)
    return folder


def class_folder(folder: Path, classes: list[str], count: int) -> Path:
    """A folder of images in one folder a class."""
    for number, name in enumerate(classes):
        for index in range(count):
            picture(folder / name / f"{index:03d}.png", 1000 * number + index)
    return folder


@dataclass(frozen=True, kw_only=True)
class Toy(Stage):
    """Counts: rows of (i, i, i), in chunks of four, with a checked request to stop between them."""

    rows: int = option("", 10, least=1)
    seed: int = option("", 0)
    weights: Path | None = option("", None)
    parents: tuple[Artefact, ...] = option("", ())
    forward: int = option("", 8, runtime=True, least=1)

    def run(self, out: Artefact) -> None:
        array = out.create("counts", (self.rows, 3), "float32", chunk_rows=4)
        for chunk in array.missing():
            signals.check()
            rows = array.rows_of(chunk)
            array.write_chunk(chunk, np.repeat(np.arange(rows.start, rows.stop)[:, None], 3, 1) + self.seed)
        out.write_json("facts.json", {"rows": self.rows})
        out.note(rows=self.rows)


@dataclass(frozen=True, kw_only=True)
class Child(Toy):
    """A stage of another kind that is made from toys."""

    toy: Artefact = option("a toy", made_by=("toy",))
