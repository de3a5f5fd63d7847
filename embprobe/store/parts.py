"""An array written in parts that are smaller than its chunks, so that a small row costs no flushed file of its own."""

import base64
import binascii
import re
import threading
from typing import TYPE_CHECKING

from embprobe.store import disk
from embprobe.store.array import Array
from embprobe.store.artefact import CHECKPOINTS
from embprobe.store.files import digest

if TYPE_CHECKING:
    import numpy as np

LINE = re.compile(rb"(\d{1,15}) ([0-9a-f]{32}) ([A-Za-z0-9+/=]+)")


class Parts:
    """An array in parts of `rows` rows each, of which a chunk holds a whole number.

    A part is a line of its chunk's journal, `checkpoints/NAME.CHUNK`, until the chunk is whole and takes the journal's
    place. A kill takes back no part; a power cut takes back those that it takes back of any file. Memory holds the
    parts of chunks that are not whole. Where a chunk is one part it is written at once.
    """

    def __init__(self, array: Array, rows: int) -> None:
        self.array, self.rows = array, rows
        self.count = -(-len(array) // rows)
        self.each = self.count if array.n_chunks == 1 else max(1, array.chunk_rows // rows)  # parts a chunk
        self._open: dict[int, dict[int, np.ndarray]] = {}  # parts by chunk, of chunks that are not whole
        self._turn = threading.Lock()

    def rows_of(self, part: int) -> range:
        """The rows that a part holds."""
        return range(part * self.rows, min(len(self.array), (part + 1) * self.rows))

    def missing(self) -> list[int]:
        """Parts that are not yet written."""
        with self._turn:
            return [
                part for chunk in self.array.missing() for part in self._of(chunk) if part not in self._begun(chunk)
            ]

    def write(self, part: int, values: "np.ndarray") -> None:
        """Writes a part, where it is missing: (rows, …), fewer at the array's end."""
        import numpy as np

        chunk = part // self.each
        if self.array.folder.has(self.array.file(chunk)):
            return
        if self.each == 1:
            self.array.write_chunk(chunk, values)
            return
        with self._turn:
            begun = self._begun(chunk)
            if part in begun:
                return
            if len(begun) + 1 < len(self._of(chunk)):
                begun[part] = values.astype(self.array.dtype)
                data = begun[part].tobytes()
                line = f"{part} {digest(data)} {base64.b64encode(data).decode()}"
                self.array.folder.append(self._journal(chunk), line.encode())
                return
            begun[part] = values
            self.array.write_chunk(chunk, np.concatenate([begun[part] for part in self._of(chunk)]))
            del self._open[chunk]
            self.array.folder.drop(self._journal(chunk))

    def _of(self, chunk: int) -> range:
        return range(chunk * self.each, min(self.count, (chunk + 1) * self.each))

    def _journal(self, chunk: int) -> str:
        return f"{CHECKPOINTS}/{self.array.name}.{chunk}"

    def _begun(self, chunk: int) -> "dict[int, np.ndarray]":
        """The parts of a chunk that is not whole."""
        if chunk not in self._open:
            self._open[chunk] = dict(self._kept(chunk)) if self.each > 1 else {}
        return self._open[chunk]

    def _kept(self, chunk: int) -> "list[tuple[int, np.ndarray]]":
        """What a journal holds; lines that are torn, or of other parts, are left out."""
        import numpy as np

        try:
            data = disk.read(self.array.folder.room(self._journal(chunk)), 2 * self.array.chunk_bytes + (1 << 20))
        except FileNotFoundError:
            return []
        kept = []
        for line in map(LINE.fullmatch, data.split(b"\n")):
            if line is None or int(line[1]) not in self._of(chunk):
                continue
            try:
                values = np.frombuffer(base64.b64decode(line[3], validate=True), self.array.dtype)
            except (binascii.Error, ValueError):
                continue
            rows = len(self.rows_of(int(line[1])))
            if digest(values.data) == line[2].decode() and values.nbytes == rows * self.array.row_bytes:
                kept.append((int(line[1]), values.reshape(rows, *self.array.shape[1:])))
        return kept
