"""Training batches: which rows a step sees is a pure function of (seed, step); rows come from whole chunks."""

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from embprobe.store import Rows

SHUFFLE_BYTES = 192 << 20  # rows are shuffled within groups of chunks of about this size
HELD_BYTES = 4 << 30  # of each array's chunks, at most, where a group of the others' rows spreads over many


class RowBatches:
    """Batches over some rows of arrays that share their rows.

    Every epoch sees each row once, in an order drawn from (seed, epoch): chunks are permuted, then rows within groups of
    chunks, so that reading stays close to sequential. An epoch's last rows run on into the next epoch's first. Each
    array keeps the chunks of one group, so that none is read twice: SHUFFLE_BYTES of the one with the largest chunks,
    of the others what holds the same rows, at most HELD_BYTES. Beside them lies one epoch's order, 8 bytes a row.
    """

    def __init__(self, arrays: "Mapping[str, Rows]", rows: np.ndarray, batch: int, seed: int) -> None:
        self.arrays, self.rows, self.batch, self.seed = arrays, np.sort(rows), batch, seed
        largest = max(arrays.values(), key=lambda a: a.row_bytes * a.chunk_rows)
        self.chunk_rows = largest.chunk_rows
        self.group = max(1, SHUFFLE_BYTES // max(1, largest.row_bytes * self.chunk_rows))
        for array in arrays.values():
            parts = 1 if array.chunk_rows == self.chunk_rows else -(-self.chunk_rows // array.chunk_rows) + 1
            array.keep(min(self.group * parts, HELD_BYTES // max(1, array.row_bytes * array.chunk_rows)))
        chunks = self.rows // self.chunk_rows
        self._starts = np.flatnonzero(np.diff(chunks, prepend=-1))  # of each chunk's rows
        self._counts = np.diff(self._starts, append=len(self.rows))
        self._epoch: tuple[int, np.ndarray] | None = None

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        """The batch of a step: the arrays' raw values, and `row` (batch,)."""
        rows = self.rows_of(step)
        return {name: array.take(rows) for name, array in self.arrays.items()} | {"row": rows}

    def rows_of(self, step: int) -> np.ndarray:
        """Row numbers of a step's batch."""
        places = np.arange(step * self.batch, (step + 1) * self.batch)
        epochs = places // len(self.rows)
        return np.concatenate([self._order(int(e))[places[epochs == e] % len(self.rows)] for e in np.unique(epochs)])

    def _order(self, epoch: int) -> np.ndarray:
        known = self._epoch
        if known is None or known[0] != epoch:
            known = self._epoch = (epoch, self._drawn(np.random.default_rng([self.seed, epoch, 0xBA7C])))
        return known[1]

    def _drawn(self, rng: np.random.Generator) -> np.ndarray:
        """All rows in an order of their own, in time linear in their number."""
        chunks = rng.permutation(len(self._starts))
        whole = len(chunks) // self.group * self.group
        chunks[:whole].reshape(-1, self.group).sort(axis=1)
        chunks[whole:].sort()
        counts = self._counts[chunks]
        stops = np.cumsum(counts)
        order = self.rows[np.repeat(self._starts[chunks] - (stops - counts), counts) + np.arange(len(self.rows))]
        for start, stop in pairwise([0, *stops[self.group - 1 : whole : self.group].tolist(), len(order)]):
            rng.shuffle(order[start:stop])
        return order
