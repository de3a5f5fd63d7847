"""Training batches: which rows a step sees is a pure function of (seed, step); rows come from whole chunks."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from embprobe.store import Array

SHUFFLE_BYTES = 192 << 20  # rows are shuffled within groups of chunks of about this size


class RowBatches:
    """Batches over some rows of arrays that share their rows.

    Every epoch sees each row once, in an order drawn from (seed, epoch): chunks are permuted, then rows within groups of
    chunks, so that reading stays close to sequential. An epoch's last rows run on into the next epoch's first.
    """

    def __init__(self, arrays: "dict[str, Array]", rows: np.ndarray, batch: int, seed: int) -> None:
        self.arrays, self.rows, self.batch, self.seed = arrays, np.sort(rows), batch, seed
        largest = max(arrays.values(), key=lambda a: a.dtype.itemsize * int(np.prod(a.shape[1:])) * a.chunk_rows)
        self.chunk_rows = largest.chunk_rows
        chunk_bytes = largest.dtype.itemsize * int(np.prod(largest.shape[1:])) * self.chunk_rows
        self.group = max(1, SHUFFLE_BYTES // max(1, chunk_bytes))
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
        if self._epoch is None or self._epoch[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch, 0xBA7C])
            chunks = rng.permutation(np.unique(self.rows // self.chunk_rows))
            groups = [np.sort(chunks[i : i + self.group]) for i in range(0, len(chunks), self.group)]
            parts = [rng.permutation(self.rows[np.isin(self.rows // self.chunk_rows, g)]) for g in groups]
            self._epoch = (epoch, np.concatenate(parts))
        return self._epoch[1]
