"""Arrays of images as numpy saves them, of any height, width and channels: spectrograms, grey images, tiles."""

import io
import math
import struct
import tokenize
import zipfile
import zlib
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from embprobe.data.decode import BadImage, Decoded
from embprobe.data.listing import Item, Source, by_key, checked_file
from embprobe.errors import UserError

COLUMNS = ("key", "label", "split", "caption")  # of an .npz, beside `images`
UNNAMED = {
    "arr_0": "images",
    "arr_1": "label",
}  # what guided-diffusion saves: samples, and classes where it was given any
NO_COLUMNS: dict[str, NDArray[np.generic]] = {}
LIMIT = 8 << 30  # bytes of an .npz that is read whole; an .npy, and images packed by nothing, are mapped
MOST_RATIO = 100  # of what an .npz unpacks to and its own size; images do not shrink to less
MOST_ROWS = 10_000_000
MOST_HEADER = 10_000  # numpy's own bound, which it tells only after it has read up to 4 GB
# What numpy and zipfile are known to raise on damaged input.
DAMAGE = (OSError, ValueError, EOFError, KeyError, OverflowError, TypeError, SyntaxError, MemoryError, RecursionError,
          NotImplementedError, struct.error, zlib.error, tokenize.TokenError, zipfile.BadZipFile)  # fmt: skip


def list_arrays(path: Path) -> Source:
    """The rows of an .npy, u8 (N,H,W) or (N,H,W,C), or of `images` in an .npz, where columns `label`, `split`, … may stand.

    Nothing in the file is executed. Raises UserError for other shapes and types, and columns of another length.
    """
    try:
        if path.suffix.lower() == ".npy":
            check_header(path)
            images, columns = np.load(path, mmap_mode="r", allow_pickle=False), NO_COLUMNS
        else:
            images, columns = read_npz(path)
    except DAMAGE as error:
        raise UserError(
            f"cannot read {path} ({error}); save it with numpy.save, or numpy.savez with `images`"
        ) from None
    images = images[..., None] if images.ndim == 3 else images
    if images.ndim != 4 or images.dtype != np.uint8 or 0 in images.shape:
        raise UserError(f"{path} holds {images.dtype} {images.shape}; images are uint8 (N,H,W) or (N,H,W,C)")
    if len(images) > MOST_ROWS:
        raise UserError(f"{path} holds {len(images):,} images; at most {MOST_ROWS:,} can be listed")
    for name, values in columns.items():
        if values.shape != (len(images),):
            raise UserError(f"{path}: `{name}` has the shape {values.shape}; there are {len(images)} images")
    size = int(np.prod(images.shape[1:]))
    words = {name: [str(value) for value in values] for name, values in columns.items()}
    keys = words.pop("key", None) or [f"{row:07d}" for row in range(len(images))]
    items = [
        Item(key, partial(row_bytes, images, row), size, **{name: values[row] for name, values in words.items()})
        for row, key in enumerate(keys)
    ]
    shape = (images.shape[1], images.shape[2], images.shape[3])
    return Source("arrays", path.stem, by_key(items), [path], described=bool(words), shape=shape)


def check_header(path: Path) -> None:
    """Raises ValueError for a header that is too long to be one."""
    with checked_file(path).open("rb") as file:
        start = file.read(12)
    length = int.from_bytes(start[8:12], "little") if start[6:7] != b"\1" else 0
    if length > MOST_HEADER:
        raise ValueError(f"a header of {length:,} bytes")


def read_npz(path: Path) -> tuple[NDArray[np.uint8], dict[str, NDArray[np.generic]]]:
    """`images`, and the columns that stand beside them; `arr_0` and `arr_1` where nothing has a name."""
    with zipfile.ZipFile(checked_file(path)) as archive:
        infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        if any(i.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for i in archive.infolist()):
            raise ValueError("packed with neither deflate nor nothing")
    named = {n: n for n in ("images", *COLUMNS)} if "images" in infos else UNNAMED
    stored = next((infos[n] for n in ("images", "arr_0") if n in infos), None)
    mapped = None if stored is None or stored.compress_type else mapped_member(path, stored)
    total = sum(i.file_size for i in infos.values() if i is not stored or mapped is None)
    if total > min(LIMIT, MOST_RATIO * path.stat().st_size + (1 << 28)):
        raise UserError(f"{path} unpacks to {total:,} bytes; save its images as an .npy, which need not be read whole")
    with np.load(path, allow_pickle=False) as file:
        wanted = [name for name in named if name in file and (mapped is None or named[name] != "images")]
        found = {named[name]: file[name] for name in wanted} | ({} if mapped is None else {"images": mapped})
    if not all(isinstance(values, np.ndarray) for values in found.values()):
        raise ValueError("what it holds is no array")
    return found.pop("images"), found


def mapped_member(path: Path, info: zipfile.ZipInfo) -> NDArray[np.uint8]:
    """An array in an .npz that is packed by nothing, where it lies. Raises ValueError for a damaged one."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        start = file.read(30)
        if start[:4] != b"PK\3\4" or len(start) < 30 or info.compress_size != info.file_size:
            raise ValueError(f"{info.filename} is damaged")
        file.seek(
            info.header_offset + 30 + int.from_bytes(start[26:28], "little") + int.from_bytes(start[28:30], "little")
        )
        begins = file.tell()
        version = np.lib.format.read_magic(file)
        if version[0] > 2 or int.from_bytes(file.read(2 * version[0]), "little") > MOST_HEADER:
            raise ValueError(f"a header of version {version}")
        file.seek(-2 * version[0], 1)
        read = np.lib.format.read_array_header_1_0 if version[0] == 1 else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file, max_header_size=MOST_HEADER)
        if dtype.hasobject or file.tell() - begins + dtype.itemsize * math.prod(shape) != info.file_size:
            raise ValueError(f"{info.filename} is not as long as its header says")
        return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")


def row_bytes(images: NDArray[np.uint8], row: int) -> IO[bytes]:
    """One image's bytes, row by row."""
    return io.BytesIO(np.ascontiguousarray(images[row]).tobytes())


def pixels_of(data: bytes, shape: tuple[int, int, int]) -> Decoded | BadImage:
    """The image as it is stored."""
    if len(data) != shape[0] * shape[1] * shape[2]:
        return BadImage(f"{len(data)} bytes are no image of shape {shape}")
    return Decoded(np.frombuffer(data, np.uint8).reshape(shape), shape[0], shape[1])
