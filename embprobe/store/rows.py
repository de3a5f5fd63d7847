"""Rows that are read chunk by chunk, wherever the chunks come from; those of which a part was asked for are kept."""

import math
import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from embprobe.store.trust import Json

if TYPE_CHECKING:
    import numpy as np

CACHE_BYTES = 256 << 20  # chunks that are kept of which only a part was asked for


class Rows(ABC):
    """Rows of numbers in chunks; any threads may read them."""

    def __init__(
        self, name: str, shape: tuple[int, ...], dtype: "np.dtype[Any]", chunk_rows: int, attrs: dict[str, Json]
    ) -> None:
        self.name, self.shape, self.dtype, self.chunk_rows, self.attrs = name, shape, dtype, chunk_rows, attrs
        self.n_chunks = -(-shape[0] // chunk_rows)
        self.chunk_bytes = self.row_bytes * chunk_rows
        self._kept: OrderedDict[int, Future[np.ndarray]] = OrderedDict()  # least recently used first
        self._keeping = threading.Lock()
        self._most = max(2, CACHE_BYTES // max(1, self.chunk_bytes))

    @abstractmethod
    def chunk(self, index: int) -> "np.ndarray":
        """One chunk's rows."""

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: "int | slice | np.ndarray | list[int]") -> "np.ndarray":
        """Rows as stored: one, a slice, or any row numbers; negative ones count from the end."""
        import numpy as np

        if isinstance(rows, (int, np.integer)):
            if not -len(self) <= rows < len(self):
                raise IndexError(f"{self.name} has {len(self)} rows, and none is number {rows}")
            row: np.ndarray = self[[int(rows)]][0]
            return row
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            return self.read(start, stop) if step == 1 else self.take(np.arange(start, stop, step))
        numbers = np.asarray(rows)
        if numbers.dtype == bool:
            if numbers.shape != (len(self),):
                raise IndexError(f"{self.name} has {len(self)} rows, and the mask has the shape {numbers.shape}")
            numbers = np.nonzero(numbers)[0]
        if numbers.size and not (-len(self) <= numbers.min() and numbers.max() < len(self)):
            raise IndexError(f"{self.name} has {len(self)} rows; asked for {numbers.min()} to {numbers.max()}")
        return self.take(np.where(numbers < 0, numbers + len(self), numbers).astype(np.int64))

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in memory."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def rows_of(self, chunk: int) -> range:
        """The rows that a chunk holds."""
        return range(chunk * self.chunk_rows, min(self.shape[0], (chunk + 1) * self.chunk_rows))

    def keep(self, chunks: int) -> None:
        """Keeps at least so many chunks, the last that were asked for; CACHE_BYTES of them otherwise."""
        self._most = max(self._most, chunks)

    def _cached(self, index: int) -> "np.ndarray":
        """A chunk's rows, kept; read once however many threads ask for it."""
        mine: Future[np.ndarray] = Future()
        with self._keeping:
            kept = self._kept.setdefault(index, mine)
            self._kept.move_to_end(index)
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        if kept is mine:
            try:
                mine.set_result(self.chunk(index))
            except BaseException as error:
                with self._keeping:
                    self._kept.pop(index, None)
                mine.set_exception(error)
        return kept.result()

    def read(self, start: int = 0, stop: int | None = None) -> "np.ndarray":
        """Rows start to stop as stored; a new array of (stop − start, …)."""
        import numpy as np

        stop = self.shape[0] if stop is None else min(stop, self.shape[0])
        out = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
        for index in range(start // self.chunk_rows, -(-stop // self.chunk_rows)):
            rows = self.rows_of(index)
            a, b = max(start, rows.start), min(stop, rows.stop)
            whole = b - a == len(rows) and index not in self._kept  # nothing of it is left to be asked for
            out[a - start : b - start] = (self.chunk if whole else self._cached)(index)[a - rows.start : b - rows.start]
        return out

    def take(self, rows: "np.ndarray") -> "np.ndarray":
        """Any rows as stored, (len(rows), …); keeps a bounded number of chunks in memory."""
        import numpy as np

        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        by_chunk = np.argsort(rows // self.chunk_rows, kind="stable")
        chunks, starts = np.unique((rows // self.chunk_rows)[by_chunk], return_index=True)
        parts = zip(chunks.tolist(), np.split(by_chunk, starts[1:]), strict=False)  # no rows are one empty part
        for index, here in sorted(parts, key=lambda part: part[0] not in self._kept):  # those kept, before others come
            out[here] = self._cached(index)[rows[here] - index * self.chunk_rows]
        return out

    def floats(self, rows: "np.ndarray | slice") -> "np.ndarray":
        """Rows as f32, decoded from f16, bf16 (held as u16) or int8 with its per-channel scale."""
        import numpy as np

        raw = self[rows]
        encoding = self.attrs.get("encoding")
        if encoding == "bf16":
            return (raw.astype(np.uint32) << 16).view(np.float32)
        if encoding == "int8":
            return raw.astype(np.float32) * np.asarray(self.attrs["scale"], np.float32)
        return raw.astype(np.float32)
