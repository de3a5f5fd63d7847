"""Rows of a Zarr array as checked chunk files."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embprobe.errors import DamagedError, MachineError
from embprobe.store import disk, trust
from embprobe.store.codecs import COMPRESSORS, Coder
from embprobe.store.files import Folder
from embprobe.store.rows import Rows
from embprobe.store.trust import Json

if TYPE_CHECKING:
    import numpy as np

GROUP = "data.zarr"
CHUNK_MOST = 512 << 20  # bytes of a chunk in memory
CODING = 1 << 16  # bytes that coding may add to a chunk
DTYPES: tuple[str, ...] = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
DTYPES += ("float16", "float32", "float64")


class Array(Rows):
    """Rows of one Zarr v3 array, stored as chunks of whole rows.

    Chunk files are read and written directly: each write is flushed and renamed into place, each read is checked.
    """

    def __init__(self, folder: Folder, name: str) -> None:
        import numpy as np

        path = folder.path / metadata_of(name)
        meta = description(trust.parsed(folder.read(metadata_of(name), trust.MOST), path), path)
        chunk_rows = meta["chunk_grid"]["configuration"]["chunk_shape"][0]
        super().__init__(
            name, tuple(meta["shape"]), np.dtype(meta["data_type"]), chunk_rows, meta.get("attributes", {})
        )
        self.folder = folder
        self.coder = Coder(meta["codecs"])
        if self.chunk_bytes > CHUNK_MOST or (folder.sealed and self.n_chunks > len(folder.sums)):
            raise DamagedError(f"{path} tells of more than its artefact can hold; it was not made by embprobe")

    def file(self, chunk: int) -> str:
        """The chunk's file, relative to the artefact."""
        return f"{GROUP}/{self.name}/c/{'/'.join([str(chunk)] + ['0'] * (len(self.shape) - 1))}"

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


def array_names(folder: Folder) -> list[str]:
    """The arrays that were begun in a folder."""
    parts = [name.split("/") for name in folder.sums]
    return sorted(p[1] for p in parts if len(p) == 3 and p[0] == GROUP and p[2] == "zarr.json")


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
