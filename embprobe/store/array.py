"""Rows of a Zarr array as checked chunk files."""

import math
import threading
from collections import OrderedDict
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embprobe.errors import DamagedError, MachineError
from embprobe.store import disk, trust
from embprobe.store.codecs import COMPRESSORS, Coder
from embprobe.store.files import Folder
from embprobe.store.trust import Json

if TYPE_CHECKING:
    import numpy as np

GROUP = "data.zarr"
CACHE_BYTES = 256 << 20  # chunks an Array keeps of which only a part was asked for
CHUNK_MOST = 512 << 20  # bytes of a chunk in memory
CODING = 1 << 16  # bytes that coding may add to a chunk
DTYPES: tuple[str, ...] = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
DTYPES += ("float16", "float32", "float64")


class Array:
    """Rows of one Zarr v3 array, stored as chunks of whole rows.

    Chunk files are read and written directly: each write is flushed and renamed into place, each read is checked.
    """

    def __init__(self, folder: Folder, name: str) -> None:
        import numpy as np

        self.folder, self.name = folder, name
        path = folder.path / metadata_of(name)
        meta = description(trust.parsed(folder.read(metadata_of(name), trust.MOST), path), path)
        self.shape: tuple[int, ...] = tuple(meta["shape"])
        self.dtype: np.dtype[Any] = np.dtype(meta["data_type"])
        self.chunk_rows: int = meta["chunk_grid"]["configuration"]["chunk_shape"][0]
        self.attrs: dict[str, Json] = meta.get("attributes", {})
        self.coder = Coder(meta["codecs"])
        self.n_chunks = -(-self.shape[0] // self.chunk_rows)
        self.chunk_bytes = self.row_bytes * self.chunk_rows
        if self.chunk_bytes > CHUNK_MOST or (folder.sealed and self.n_chunks > len(folder.sums)):
            raise DamagedError(f"{path} tells of more than its artefact can hold; it was not made by embprobe")
        self._kept: OrderedDict[int, Future[np.ndarray]] = OrderedDict()  # least recently used first
        self._keeping = threading.Lock()
        self._most = max(2, CACHE_BYTES // max(1, self.chunk_bytes))

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

    def file(self, chunk: int) -> str:
        """The chunk's file, relative to the artefact."""
        return f"{GROUP}/{self.name}/c/{'/'.join([str(chunk)] + ['0'] * (len(self.shape) - 1))}"

    def rows_of(self, chunk: int) -> range:
        """The rows that a chunk holds."""
        return range(chunk * self.chunk_rows, min(self.shape[0], (chunk + 1) * self.chunk_rows))

    def missing(self) -> list[int]:
        """Chunks not yet written whole."""
        return [c for c in range(self.n_chunks) if not self.folder.has(self.file(c))]

    # -- writing

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
        self.folder.write(self.file(chunk), self.coder.encode(values), settle=False)

    def write(self, values: "np.ndarray") -> None:
        """Writes the whole array; chunks that are there already stay."""
        for chunk in self.missing():
            rows = self.rows_of(chunk)
            self.write_chunk(chunk, values[rows.start : rows.stop])

    # -- reading

    def chunk(self, index: int) -> "np.ndarray":
        """One chunk's rows, checked. Raises DamagedError."""
        name = self.file(index)
        data = self.folder.read(name, self.chunk_bytes + CODING)
        try:
            values = self.coder.decode(data, self.dtype, self.chunk_rows * math.prod(self.shape[1:]))
        except DamagedError as error:
            raise DamagedError(f"{self.folder.path / name}: {error}; remove the artefact and make it again") from None
        return values.reshape(-1, *self.shape[1:])[: len(self.rows_of(index))]

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


def aligned(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> "np.ndarray":
    """An array to fill, on whole pages of memory, from which a chunk is written past the disk's cache."""
    import numpy as np

    size = math.prod(shape) * dtype.itemsize
    room = np.empty(size + disk.PAGE, np.uint8)
    start = -room.ctypes.data % disk.PAGE
    return room[start : start + size].view(dtype).reshape(shape)


def metadata_of(name: str) -> str:
    """The file that describes an array."""
    return f"{GROUP}/{name}/zarr.json"


def description(meta: Json, path: Path) -> dict[str, Json]:
    """The description of an array, which has all that it must. Raises DamagedError."""
    try:
        shape, grid = meta["shape"], meta["chunk_grid"]["configuration"]["chunk_shape"]
        counts = all(type(n) is int and n >= 0 for n in shape) and all(type(n) is int and n > 0 for n in grid)
        rows = counts and len(shape) == len(grid) > 0 and [max(1, n) for n in shape[1:]] == grid[1:]
        codecs = meta["codecs"]
        coded = codecs and all(
            isinstance(c["name"], str) and isinstance(c.get("configuration", {}), dict) for c in codecs
        )
        if rows and coded and meta["data_type"] in DTYPES and isinstance(meta.get("attributes", {}), dict):
            return dict(meta)
    except (AttributeError, KeyError, TypeError):
        pass
    raise DamagedError(f"{path} describes no array that embprobe writes")


def create_array(
    folder: Folder,
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    *,
    chunk_rows: int | None = None,
    attrs: dict[str, Json] | None = None,
    kind: str = "bare",
) -> Array:
    """An array to write, coded as its kind is; the one begun before, if it has this shape. Raises MachineError."""
    key = metadata_of(name)
    for file in (f"{GROUP}/zarr.json", key):
        if not folder.has(file):
            chunks = (min(chunk_rows or shape[0], max(1, shape[0])) or 1, *shape[1:])
            folder.write(file, _metadata(name, shape, dtype, chunks, attrs, kind)[file])
    array = Array(folder, name)
    if array.shape != tuple(shape):
        raise MachineError(
            f"{folder.path / key} has shape {array.shape}, not {shape}; remove {folder.path} and run again"
        )
    return array


def _metadata(
    name: str, shape: tuple[int, ...], dtype: str, chunks: tuple[int, ...], attrs: dict[str, Json] | None, kind: str
) -> dict[str, bytes]:
    """The files that zarr describes a group and its array by."""
    import zarr
    from zarr.core.buffer import Buffer

    files: dict[str, Buffer] = {}
    group = zarr.open_group(zarr.storage.MemoryStore(files), path=GROUP, mode="a", zarr_format=3)
    compressors = COMPRESSORS[kind] or None
    group.create_array(
        name, shape=shape, dtype=dtype, chunks=chunks, compressors=compressors, filters=None, attributes=attrs
    )
    return {file: value.to_bytes() for file, value in files.items()}
