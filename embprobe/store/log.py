"""The log of an artefact: one JSON object a line, written at once; progress by `step`, and what happened as `event`."""

import json

from embprobe.errors import DamagedError
from embprobe.store import disk, trust
from embprobe.store.files import Folder, digest
from embprobe.store.trust import Json, finite

FILE = "log.jsonl"
MOST = 1 << 28  # bytes


class Log:
    """Rows in the order they were written; a kill loses at most the line being written.

    `sealed` is the checksum that a finished artefact's log has.
    """

    def __init__(self, folder: Folder, sealed: str | None = None) -> None:
        self.folder, self.sealed = folder, sealed

    def add(self, **row: Json) -> None:
        """Adds a row."""
        self.folder.append(FILE, json.dumps(finite(row)).encode())

    def data(self) -> bytes:
        """The file's bytes. Raises DamagedError where they are not those of the finished artefact."""
        path = self.folder.path / FILE
        try:
            data = disk.read(path, MOST)
        except FileNotFoundError:
            data = b""
        if self.sealed is not None and digest(data) != self.sealed:
            raise DamagedError(f"{path} is damaged; `embprobe verify --repair {self.folder.path}`")
        return data

    def rows(self) -> list[dict[str, Json]]:
        """All rows; torn lines are left out."""
        return trust.json_rows(self.data())

    def events(self, *names: str) -> list[dict[str, Json]]:
        """What happened, or what of these names, in order."""
        return [row for row in self.rows() if "event" in row and (not names or row["event"] in names)]

    def forget_after(self, step: int) -> None:
        """Drops rows of later steps, which will be trained again; events stay."""
        rows = self.rows()
        kept = [row for row in rows if not isinstance(at := row.get("step", 0), int) or at <= step]
        if len(kept) < len(rows):
            self.folder.replace(FILE, (json.dumps(row).encode() for row in kept))

    def settle(self) -> str:
        """Flushes the file; its checksum."""
        if (self.folder.path / FILE).exists():
            disk.sync(self.folder.path / FILE)
        return digest(self.data())
