"""The one loop that fills arrays, as training/engine is the one that trains: resumable, overlapped, bounded."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from embprobe import console, signals
from embprobe.store import Array

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    import numpy as np

WAITING = 2  # chunks on their way to the disk while the next is computed
Read = TypeVar("Read")


def fill(
    arrays: Sequence[Array],
    read: Callable[[range], Read],
    compute: "Callable[[range, Read], Sequence[np.ndarray]]",
    *,
    batch: int,
    label: str,
    sums: Array | None = None,
    unit: str = "img",
) -> None:
    """Fills the chunks that are missing of arrays that share their rows and chunks.

    Rows are taken at most `batch` at a time and never across chunks, so that what is computed does not depend on where
    an earlier run stopped. `read(rows)` runs a batch ahead in a thread; `compute(rows, read)` runs here and gives the
    rows' values for each array, then, where there are `sums` (n_chunks, …), a summand of the chunk's row there. Memory
    holds two batches and three chunks. Raises Interrupted between batches when a signal came; whole chunks stay.
    """
    from concurrent.futures import ThreadPoolExecutor

    first = arrays[0]
    parts = (part for chunk in unclaimed(arrays, sums) for part in batches_of(first.rows_of(chunk), batch))
    done = len(first) - sum(len(first.rows_of(c)) for c in missing(arrays, sums))
    with (
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(WAITING) as writer,
        console.progress(label, total=len(first), unit=unit, start=done) as bar,
    ):
        writes: list[Future[None]] = []
        buffers: list[np.ndarray] = []
        for rows, values in _ahead(reader, read, parts):
            signals.check()
            chunk = rows.start // first.chunk_rows
            whole = first.rows_of(chunk)
            if rows.start == whole.start:
                buffers = _buffers(arrays, sums, len(whole))
            results = compute(rows, values)
            for buffer, part in zip(buffers, results[: len(arrays)], strict=False):
                buffer[rows.start - whole.start : rows.stop - whole.start] = part
            if sums is not None:
                buffers[-1] += results[-1]
            bar.advance(len(rows))
            if rows.stop == whole.stop:
                writes.append(writer.submit(_write, chunk, arrays, sums, buffers))
                while len(writes) > WAITING:
                    writes.pop(0).result()
        for write in writes:
            write.result()


def unclaimed(arrays: Sequence[Array], sums: Array | None = None) -> Iterator[int]:
    """Chunks to fill, in order; several workers would share them out here."""
    yield from missing(arrays, sums)


def missing(arrays: Sequence[Array], sums: Array | None = None) -> list[int]:
    """Chunks of which some array lacks its part."""
    every = [*arrays, *([sums] if sums else [])]
    return sorted({chunk for array in every for chunk in array.missing()})


def batches_of(rows: range, batch: int) -> Iterator[range]:
    """The rows, at most `batch` at a time."""
    return (range(start, min(start + batch, rows.stop)) for start in range(rows.start, rows.stop, batch))


def _ahead(
    reader: "ThreadPoolExecutor", read: Callable[[range], Read], parts: Iterator[range]
) -> Iterator[tuple[range, Read]]:
    """Each part with what was read for it while the one before was computed."""
    waiting: tuple[range, Future[Read]] | None = None
    for part in parts:
        following = part, reader.submit(read, part)
        if waiting is not None:
            yield waiting[0], waiting[1].result()
        waiting = following
    if waiting is not None:
        yield waiting[0], waiting[1].result()


def _buffers(arrays: Sequence[Array], sums: Array | None, rows: int) -> "list[np.ndarray]":
    import numpy as np

    buffers: list[np.ndarray] = [np.empty((rows, *a.shape[1:]), a.dtype) for a in arrays]
    return buffers if sums is None else [*buffers, np.zeros(sums.shape[1:], sums.dtype)]


def _write(chunk: int, arrays: Sequence[Array], sums: Array | None, buffers: "list[np.ndarray]") -> None:
    """Writes what is missing of a chunk, its sums first: a chunk that is there has them."""
    pairs = list(zip(arrays, buffers, strict=False))
    for array, values in pairs if sums is None else [(sums, buffers[-1][None]), *pairs]:
        if not array.folder.has(array.file(chunk)):
            array.write_chunk(chunk, values)
