"""A view: an artefact of one stage and what it holds; and choices of rows."""

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from embprobe.errors import DamagedError, UserError
from embprobe.stage import Stage
from embprobe.store import Artefact, Rows

if TYPE_CHECKING:
    import numpy as np


class View:
    """An artefact of one stage, and what it holds; read-only. Raises UserError for one of another stage."""

    artefact: Artefact
    made_by: ClassVar[str]

    def __init__(self, artefact: Artefact) -> None:
        if artefact.stage != self.made_by:
            raise UserError(
                f"{artefact.short} was made by {artefact.stage}; {type(self).__name__} wants what {self.made_by} makes"
            )
        self.__dict__["artefact"] = artefact

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is read-only")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other)["artefact"] == self.artefact

    def __hash__(self) -> int:
        return hash(self.artefact)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.artefact.short})"

    @property
    def short(self) -> str:
        """The first digits of the fingerprint."""
        return self.artefact.short

    def _source(self, option: str) -> Artefact:
        """The artefact that was given as this option."""
        inputs = self.artefact.inputs
        if option not in inputs:
            raise DamagedError(f"{self.artefact.path} tells of no {option} that it was made from")
        return inputs[option]


def evenly(rows: "np.ndarray", count: int) -> "np.ndarray":
    """At most `count` of the rows, evenly spaced."""
    import numpy as np

    if len(rows) <= count:
        return rows
    spaced: np.ndarray = rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)]
    return spaced


def seeded_subset(rows: "np.ndarray", count: int, seed: int) -> "np.ndarray":
    """A seeded choice of at most `count` rows, sorted; smaller ones are part of larger ones."""
    import numpy as np

    return np.sort(np.random.default_rng([seed, 0xE7A1]).permutation(rows)[:count])


def blocks(rows: "np.ndarray", size: int) -> "Iterator[np.ndarray]":
    """The rows, at most `size` at a time, in order."""
    return (rows[start : start + size] for start in range(0, len(rows), size))


def by_chunk(array: Rows, rows: "np.ndarray", limit: int | None = None) -> "Iterator[np.ndarray]":
    """The rows that lie in each chunk, in order; at most `limit` at a time."""
    import numpy as np

    borders = np.searchsorted(rows, np.arange(array.n_chunks + 1) * array.chunk_rows)
    for start, stop in pairwise(borders):
        if stop > start:
            yield from blocks(rows[start:stop], limit or int(stop - start))


def held_in(artefact: Artefact) -> int:
    """How many images an artefact is of, or will be once it is made; 0 when unknown."""
    if artefact.complete:
        return int(artefact.metrics.get("count") or 0)
    question = artefact.question
    if not isinstance(question, Stage):
        return 0
    if artefact.stage in ("ingest", "sample"):
        return int(question.work() if artefact.stage == "ingest" else question.options()["count"])
    return next((held_in(a) for a in question.inputs().values()), 0)


def pixels_in(artefact: Artefact) -> int:
    """How many pixels each image of a data set has, or will have once it is made; 1 when unknown."""
    height, width = size_to_be(artefact) or (1, 1)
    return height * width


def size_to_be(artefact: Artefact) -> tuple[int, int] | None:
    """Height and width of a data set's images, or of what they will be once it is made; None when unknown."""
    if artefact.complete:
        return image_size(artefact)
    shape = getattr(artefact.question, "shape", None)
    return shape()[:2] if shape else None


def image_size(artefact: Artefact) -> tuple[int, int]:
    """Height and width of the images of an artefact, in pixels, from its manifest."""
    size = artefact.metrics["size"]
    return (size, size) if isinstance(size, int) else (size[0], size[1])
