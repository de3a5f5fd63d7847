"""Rows of a Zarr array as checked chunk files."""

import json
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from embprobe.store.files import Json

if TYPE_CHECKING:
    import numpy as np

    from embprobe.store.artefact import Artefact

CACHE_BYTES = 256 << 20  # chunks an Array keeps for `take`


class Array:
    """Rows of one Zarr v3 array, stored as uncompressed chunks of whole rows.

    Chunk files are read and written directly: each write is flushed and renamed into place, each read is checked.
    """

    def __init__(self, owner: "Artefact", name: str) -> None:
        import numpy as np

        self.owner, self.name = owner, name
        self.key = f"data.zarr/{name}"
        meta = json.loads(owner.ledger.read(f"{self.key}/zarr.json"))
        self.shape: tuple[int, ...] = tuple(meta["shape"])
        self.dtype: np.dtype[Any] = np.dtype(meta["data_type"])
        self.chunk_rows: int = meta["chunk_grid"]["configuration"]["chunk_shape"][0]
        self.attrs: dict[str, Json] = meta.get("attributes", {})
        self.n_chunks = -(-self.shape[0] // self.chunk_rows)
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._cache_lock = threading.Lock()
        row_bytes = self.dtype.itemsize * self._row_items()
        self._cache_chunks = max(2, CACHE_BYTES // max(1, row_bytes * self.chunk_rows))

    def __len__(self) -> int:
        return self.shape[0]

    def _row_items(self) -> int:
        items = 1
        for n in self.shape[1:]:
            items *= n
        return items

    def file(self, chunk: int) -> str:
        """The chunk's file, relative to the artefact."""
        return f"{self.key}/c/{'/'.join([str(chunk)] + ['0'] * (len(self.shape) - 1))}"

    def rows_of(self, chunk: int) -> range:
        """The rows that a chunk holds."""
        return range(chunk * self.chunk_rows, min(self.shape[0], (chunk + 1) * self.chunk_rows))

    def missing(self) -> list[int]:
        """Chunks not yet written whole."""
        return [c for c in range(self.n_chunks) if not self.owner.ledger.whole(self.file(c))]

    def write_chunk(self, chunk: int, values: "np.ndarray") -> None:
        """Writes the rows of one chunk: (len(rows_of(chunk)), …). Atomic; the lock is checked first."""
        import numpy as np

        rows = self.rows_of(chunk)
        if values.shape != (len(rows), *self.shape[1:]):
            raise ValueError(f"{self.name}: chunk {chunk} takes {(len(rows), *self.shape[1:])}, not {values.shape}")
        values = np.ascontiguousarray(values, dtype=self.dtype)
        if len(rows) < self.chunk_rows:  # Zarr stores the last chunk at full size
            pad = np.zeros((self.chunk_rows - len(rows), *self.shape[1:]), self.dtype)
            values = np.concatenate([values, pad])
        self.owner.write_bytes(self.file(chunk), values.reshape(-1).view(np.uint8).data)

    def write(self, values: "np.ndarray") -> None:
        """Writes the whole array; chunks that are there already stay."""
        for chunk in self.missing():
            rows = self.rows_of(chunk)
            self.write_chunk(chunk, values[rows.start : rows.stop])

    def chunk(self, index: int) -> "np.ndarray":
        """One chunk's rows, checked."""
        import numpy as np

        data = self.owner.ledger.read(self.file(index))
        values = np.frombuffer(data, self.dtype).reshape(-1, *self.shape[1:])
        return values[: len(self.rows_of(index))]

    def _cached(self, index: int) -> "np.ndarray":
        with self._cache_lock:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
        values = self.chunk(index)
        with self._cache_lock:
            self._cache[index] = values
            while len(self._cache) > self._cache_chunks:
                self._cache.popitem(last=False)
        return values

    def read(self, start: int = 0, stop: int | None = None) -> "np.ndarray":
        """Rows start to stop as stored; a new array of (stop − start, …)."""
        import numpy as np

        stop = self.shape[0] if stop is None else min(stop, self.shape[0])
        out = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
        for index in range(start // self.chunk_rows, -(-stop // self.chunk_rows)):
            rows = self.rows_of(index)
            a, b = max(start, rows.start), min(stop, rows.stop)
            out[a - start : b - start] = self.chunk(index)[a - rows.start : b - rows.start]
        return out

    def take(self, rows: "np.ndarray") -> "np.ndarray":
        """Any rows as stored, (len(rows), …); keeps a bounded number of chunks in memory."""
        import numpy as np

        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        chunks = rows // self.chunk_rows
        for index in np.unique(chunks):
            here = np.nonzero(chunks == index)[0]
            out[here] = self._cached(int(index))[rows[here] - index * self.chunk_rows]
        return out

    def floats(self, rows: "np.ndarray | slice") -> "np.ndarray":
        """Rows as f32, decoded from f16, bf16 (held as u16) or int8 with its per-channel scale."""
        import numpy as np

        raw = self.read(rows.start or 0, rows.stop) if isinstance(rows, slice) else self.take(rows)
        encoding = self.attrs.get("encoding")
        if encoding == "bf16":
            return (raw.astype(np.uint32) << 16).view(np.float32)
        if encoding == "int8":
            return raw.astype(np.float32) * np.asarray(self.attrs["scale"], np.float32)
        return raw.astype(np.float32)
