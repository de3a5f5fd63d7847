"""Reading a source's images by several threads; those that can't be decoded are listed, or stop the run by name."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from embprobe import console, signals
from embprobe.data import sources
from embprobe.data.catalogue import Catalogue
from embprobe.data.decode import BadImage, Decoded
from embprobe.data.listing import Item
from embprobe.errors import UserError
from embprobe.store import Array, Artefact, Json

BATCH = 64  # images decoded at a time


@dataclass(frozen=True)
class ImageReader:
    """How the images of a source are read: as squares of `size`, or as they are where they are arrays of `shape`."""

    pool: ThreadPoolExecutor
    source: str
    size: int
    shape: tuple[int, int, int] | None
    skip_bad: bool

    def decoded(self, items: Sequence[Item]) -> list[Decoded | BadImage]:
        """What decoding gives, in order."""
        return list(self.pool.map(partial(sources.read_image, size=self.size, shape=self.shape), items))

    def whole(self, items: Sequence[Item]) -> list[Decoded]:
        """Decoded images; a bad one stops the run with its name, and how many more there are beside it."""
        results = self.decoded(items)
        bad = [(item, r) for item, r in zip(items, results, strict=True) if isinstance(r, Exception)]
        if bad:
            item, reason = bad[0]
            more = f", nor {len(bad) - 1} more of the {len(items)} images read with it" if len(bad) > 1 else ""
            skip = "run again" if self.skip_bad else "remove it, or pass --skip-bad"
            raise UserError(
                f"cannot read {item.key} in {self.source} ({reason}){more}; {skip} to list and skip all such files"
            )
        return [result for result in results if not isinstance(result, Exception)]

    def without_bad(self, rows: Catalogue, out: Artefact) -> tuple[Catalogue, list[Json]]:
        """The rows that can be decoded, and key and reason of the others, kept in `bad.jsonl`.

        Raises UserError if no row is left.
        """
        if not self.skip_bad:
            return rows, []
        if not out.has("bad.jsonl"):
            out.write_lines("bad.jsonl", self._bad(rows.items))
        bad = out.read_lines("bad.jsonl")
        keys = {row["key"] for row in bad}
        kept = [position for position, item in enumerate(rows.items) if item.key not in keys]
        if not kept:
            raise UserError("not one image could be decoded; check the source")
        return rows.only(kept), bad

    def _bad(self, items: Sequence[Item]) -> list[Json]:
        """From a first pass over all."""
        bad: list[Json] = []
        with console.progress("checking", total=len(items), unit="img") as bar:
            for start in range(0, len(items), BATCH):
                signals.check()
                part = items[start : start + BATCH]
                for item, result in zip(part, self.decoded(part), strict=True):
                    if isinstance(result, Exception):
                        bad.append({"key": item.key, "reason": str(result)})
                bar.advance(len(part))
        return bad


@contextmanager
def image_reader(
    source: str, size: int, shape: tuple[int, int, int] | None, *, skip_bad: bool, threads: int | None
) -> Iterator[ImageReader]:
    """A reader with its threads, one a core if not given."""
    with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
        yield ImageReader(pool, source, size, shape, skip_bad)


def upscaled(sizes: Array, size: int) -> int:
    """How many originals were smaller than the stored squares."""
    return sum(int((sizes.chunk(chunk).min(axis=1) < size).sum()) for chunk in range(sizes.n_chunks))
