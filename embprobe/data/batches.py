"""Rows of a Parquet or Arrow file, a bounded batch at a time; the only file that knows pyarrow's readers."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embprobe.data.listing import checked_file
from embprobe.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet

ROWS = 256  # in a batch, at most
BATCH_BYTES = 1 << 24  # of a batch, about: fewer rows where they are large
LISTED = 4096  # rows in a batch of what stands beside the images
LAG = 64  # rows before the last one read that stay at hand, for threads that ask late
OPEN = 2  # files that stay open: threads may still want the one before
MOST_RATIO = 1000  # of what a row group unpacks to and what the file holds: images do not shrink to less
SLACK = 1 << 24
POINTER = b"version https://git-lfs"


def arrow() -> Any:  # Any: a module that need not be installed
    """pyarrow. Raises UserError where it is not installed."""
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise UserError("Parquet and Arrow files need pyarrow; pip install 'embprobe[hf]'") from None
    return pyarrow


def arrow_damage() -> tuple[type[Exception], ...]:
    """What pyarrow raises on damaged input."""
    return (arrow().ArrowException, OSError, ValueError, KeyError, IndexError, TypeError, OverflowError, MemoryError,
            NotImplementedError, RecursionError)  # fmt: skip


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raises UserError, in one line, where pyarrow can't read a file."""
    failures = arrow_damage()
    checked_file(path)
    try:
        yield
    except failures as error:
        with path.open("rb") as file:
            if file.read(len(POINTER)) == POINTER:
                raise UserError(f"{path} is a pointer of Git LFS, not the file; `git lfs pull` fetches it") from None
        told = " ".join(str(error).split())[:200]
        raise UserError(f"cannot read {path} ({told}); give a whole Parquet or Arrow file") from None


def schema_of(path: Path) -> "pa.Schema":
    """The columns of a file. Raises ValueError for one whose numbers no file of images has."""
    if path.suffix.lower() != ".parquet":
        return _stream(path).schema
    file = _parquet(path)
    _check_groups(file, path)
    return file.schema_arrow


def read_batches(path: Path, columns: Sequence[str]) -> "Iterator[pa.RecordBatch]":
    """All rows of some columns, from the first on; no column at all still tells how many rows there are."""
    if path.suffix.lower() == ".parquet":
        yield from (batch for _, batch in parquet_batches(path, columns, 0, LISTED))
    else:
        yield from (batch for _, batch in arrow_batches(path, columns))


def parquet_batches(
    path: Path, columns: Sequence[str], row: int, most: int = ROWS
) -> "Iterator[tuple[int, pa.RecordBatch]]":
    """Batches, each with the number of its first row, from the row group on that holds `row`."""
    with _parquet(path) as file:
        first = 0
        for group in range(file.num_row_groups):
            facts = file.metadata.row_group(group)
            if row < first + facts.num_rows:
                at = first
                fitting = max(1, BATCH_BYTES * facts.num_rows // max(1, facts.total_byte_size))
                rows = most if most == LISTED else min(most, fitting)
                for batch in file.iter_batches(rows, row_groups=[group], columns=list(columns)):
                    yield at, batch
                    at += batch.num_rows
            first += facts.num_rows


def arrow_batches(path: Path, columns: Sequence[str]) -> "Iterator[tuple[int, pa.RecordBatch]]":
    """Batches, each with the number of its first row; they lie in the file as they are read, and take no memory."""
    import pyarrow as pa

    first = 0
    with _stream(path) as reader:
        count = getattr(reader, "num_record_batches", None)
        batches = reader if count is None else map(reader.get_batch, range(count))
        for batch in batches:
            chosen = batch.select(list(dict.fromkeys(name.partition(".")[0] for name in columns)))
            chosen.validate(full=True)  # offsets that point outside the file would be followed
            for name in (name for name in columns if "." in name):
                top, _, leaf = name.partition(".")
                place = chosen.schema.get_field_index(top)
                struct = pa.StructArray.from_arrays([pa.compute.struct_field(chosen.column(top), leaf)], [leaf])
                chosen = chosen.set_column(place, top, struct)
            yield first, chosen if columns else batch
            first += batch.num_rows


class Pictures:
    """The bytes of images in the files of a set, by file and row; a few batches of the last files are held."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.open: dict[Path, Forward] = {}

    def row(self, path: Path, column: str, row: int) -> bytes:
        """The bytes of a row. Raises ValueError where they are damaged or not there."""
        with self.lock:
            forward = self.open.pop(path, None) or Forward(path, column)
            try:
                value = forward.row(row)
            except arrow_damage() as error:
                raise ValueError(" ".join(str(error).split())[:200]) from None
            self.open[path] = forward  # the last one used comes last
            if len(self.open) > OPEN:
                del self.open[next(iter(self.open))]
        data = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(data, bytes):
            raise ValueError("the row holds no bytes")
        return data


class Forward:
    """Rows of a column, read forwards; those a little before the last one are at hand, others from their group on."""

    def __init__(self, path: Path, column: str) -> None:
        self.path, self.column = path, column
        self.held: list[tuple[int, pa.RecordBatch]] = []
        self.ahead: Iterator[tuple[int, pa.RecordBatch]] = iter(())

    def row(self, row: int) -> Any:  # Any: what the column holds
        """Raises what `arrow_damage` lists."""
        if not self.held or row < self.held[0][0]:
            self.held, self.ahead = [], self._from(row)
        while not self.held or row >= self.held[-1][0] + self.held[-1][1].num_rows:
            following = next(self.ahead, None)
            if following is None:
                raise ValueError("the file ends before the row")
            self.held.append(following)
            while len(self.held) > 1 and self.held[1][0] < following[0] - LAG:
                del self.held[0]
        first, batch = next((f, b) for f, b in reversed(self.held) if f <= row)
        return batch.column(0)[row - first].as_py()

    def _from(self, row: int) -> "Iterator[tuple[int, pa.RecordBatch]]":
        if self.path.suffix.lower() == ".parquet":
            return parquet_batches(self.path, [self.column], row)
        return arrow_batches(self.path, [self.column])


def _parquet(path: Path) -> "pa.parquet.ParquetFile":
    file: pa.parquet.ParquetFile = arrow().parquet.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False)
    return file


def _check_groups(file: "pa.parquet.ParquetFile", path: Path) -> None:
    groups = [file.metadata.row_group(group) for group in range(file.num_row_groups)]
    if any(g.num_rows < 0 or g.total_byte_size < 0 for g in groups):
        raise ValueError("a row group of less than nothing")
    total = sum(g.total_byte_size for g in groups)
    if total > MOST_RATIO * path.stat().st_size + SLACK:
        raise ValueError(f"it would unpack to {total:,} bytes, which no images do")


def _stream(path: Path) -> Any:  # Any: a reader of either of Arrow's two formats
    pa = arrow()
    file = pa.memory_map(str(path))
    start = file.read(6)
    file.seek(0)
    return pa.ipc.open_file(file) if start == b"ARROW1" else pa.ipc.open_stream(file)
