"""The one loop that fills arrays, as training/engine is the one that trains: resumable, overlapped, bounded."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from embprobe import console, signals
from embprobe.store import Array, Parts, aligned

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    import numpy as np

WAITING = 2  # units on their way to the disk while the next is computed
Read = TypeVar("Read")
Room = Callable[[tuple[int, ...], Any], "np.ndarray"]  # Any: a numpy dtype


def fill(
    arrays: Sequence[Array],
    read: Callable[[range], Read],
    compute: "Callable[[range, Read], Sequence[np.ndarray]]",
    *,
    batch: int,
    label: str,
    sums: Array | None = None,
    unit: str = "img",
    together: bool = False,
) -> None:
    """Fills the chunks that are missing of arrays that share their rows.

    `read(rows)` runs a batch ahead in a thread; `compute(rows, read)` runs here and gives the rows' values for each
    array, then, where there are `sums` (n_chunks, …), a summand of the chunk's row there. All else is as in `pour`.
    """

    def poured(rows: range, values: Read, into: "Sequence[np.ndarray]") -> None:
        results = compute(rows, values)
        for room, part in zip(into, results[: len(arrays)], strict=False):
            room[...] = part
        if sums is not None:
            into[-1][...] += results[-1]

    pour(arrays, read, poured, batch=batch, label=label, sums=sums, unit=unit, together=together)


def pour(
    arrays: Sequence[Array],
    read: Callable[[range], Read],
    compute: "Callable[[range, Read, Sequence[np.ndarray]], Callable[[], None] | None]",
    *,
    batch: int,
    label: str,
    sums: Array | None = None,
    unit: str = "img",
    together: bool = False,
    room: Room = aligned,
) -> None:
    """Fills the chunks that are missing of arrays that share their rows; `compute` puts values where they leave from.

    Chunks are those of the first array; the others' hold a whole number of them. Rows are taken at most `batch` at a
    time and never across chunks, or, `together`, by as many whole chunks as a batch holds, always the same ones: what is
    computed does not depend on where an earlier run stopped. `compute(rows, read, into)` fills the rows' place in each
    array and, where there are `sums` (n_chunks, …), adds to those of the rows' chunks, which are 0 at first; what it
    leaves to a device it gives as a function that waits for it, called before the values are written. Memory holds two
    batches and WAITING + 1 units, a chunk or those taken together, from `room`. Raises Interrupted between batches
    when a signal came; whole chunks stay.
    """
    from concurrent.futures import ThreadPoolExecutor

    first = arrays[0]
    each = max(1, batch // first.chunk_rows) if together else 1
    targets = [Parts(array, first.chunk_rows) for array in arrays] + ([Parts(sums, 1)] if sums is not None else [])
    lacking = {chunk for target in targets for chunk in target.missing()}
    units = [range(u * each, min(first.n_chunks, (u + 1) * each)) for u in sorted({chunk // each for chunk in lacking})]
    parts = ((chunks, rows) for chunks in units for rows in batches_of(rows_of(first, chunks), batch))
    done = len(first) - sum(len(rows_of(first, chunks)) for chunks in units)
    spare: list[list[np.ndarray]] = []
    leaving: list[tuple[Future[None], list[np.ndarray]]] = []
    with (
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(WAITING) as writer,
        console.progress(label, total=len(first), unit=unit, start=done) as bar,
    ):
        for chunks, rows, values in _ahead(reader, read, parts):
            signals.check()
            whole = rows_of(first, chunks)
            if rows.start == whole.start:
                waits: list[Callable[[], None]] = []
                buffers = spare.pop() if spare else _buffers(arrays, sums, each, room)
                for zero in buffers[len(arrays) :]:
                    zero[...] = 0
            into = [b[rows.start - whole.start : rows.stop - whole.start] for b in buffers[: len(arrays)]]
            wait = compute(rows, values, [*into, *(b[: len(chunks)] for b in buffers[len(arrays) :])])
            waits += [wait] if wait is not None else []
            bar.advance(len(rows))
            if rows.stop == whole.stop:
                leaving.append((writer.submit(_write, chunks, targets, buffers, waits), buffers))
                while len(leaving) > WAITING:
                    written, used = leaving.pop(0)
                    written.result()
                    spare.append(used)
        for written, _ in leaving:
            written.result()


def rows_of(array: Array, chunks: range) -> range:
    """The rows of some chunks that follow each other."""
    return range(array.rows_of(chunks[0]).start, array.rows_of(chunks[-1]).stop)


def batches_of(rows: range, batch: int) -> Iterator[range]:
    """The rows, at most `batch` at a time."""
    return (range(start, min(start + batch, rows.stop)) for start in range(rows.start, rows.stop, batch))


def _ahead(
    reader: "ThreadPoolExecutor", read: Callable[[range], Read], parts: Iterator[tuple[range, range]]
) -> Iterator[tuple[range, range, Read]]:
    """Each part with what was read for it while the one before was computed."""
    waiting: tuple[range, range, Future[Read]] | None = None
    for chunks, rows in parts:
        following = chunks, rows, reader.submit(read, rows)
        if waiting is not None:
            yield waiting[0], waiting[1], waiting[2].result()
        waiting = following
    if waiting is not None:
        yield waiting[0], waiting[1], waiting[2].result()


def _buffers(arrays: Sequence[Array], sums: Array | None, chunks: int, room: Room) -> "list[np.ndarray]":
    rows = min(len(arrays[0]), chunks * arrays[0].chunk_rows)
    buffers = [room((rows, *a.shape[1:]), a.dtype) for a in arrays]
    return buffers if sums is None else [*buffers, room((chunks, *sums.shape[1:]), sums.dtype)]


def _write(
    chunks: range, targets: Sequence[Parts], buffers: "list[np.ndarray]", waits: "Sequence[Callable[[], None]]"
) -> None:
    """Writes what is missing of the chunks, their sums first: a chunk that is there has them."""
    for wait in waits:
        wait()
    for place, chunk in enumerate(chunks):
        for target, buffer in reversed(list(zip(targets, buffers, strict=True))):
            start = place * target.rows
            target.write(chunk, buffer[start : start + len(target.rows_of(chunk))])
