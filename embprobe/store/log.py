"""The log of an artefact: one JSON object a line, written at once; progress by `step`, and what happened as `event`."""

import json

from embprobe.store.files import Folder, Json, finite

FILE = "log.jsonl"


class Log:
    """Rows in the order they were written; a kill loses at most the line being written."""

    def __init__(self, folder: Folder) -> None:
        self.folder = folder

    def add(self, **row: Json) -> None:
        """Adds a row, on disk before this returns."""
        self.folder.append(FILE, json.dumps(finite(row)).encode())

    def rows(self) -> list[dict[str, Json]]:
        """All rows; torn lines are left out."""
        try:
            lines = (self.folder.path / FILE).read_text().splitlines()
        except FileNotFoundError:
            return []
        rows = []
        for line in lines:
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return rows

    def events(self, *names: str) -> list[dict[str, Json]]:
        """What happened, or what of these names, in order."""
        return [row for row in self.rows() if "event" in row and (not names or row["event"] in names)]

    def forget_after(self, step: int) -> None:
        """Drops rows of later steps, which will be trained again; events stay."""
        rows = self.rows()
        kept = [row for row in rows if row.get("step", 0) <= step]
        if len(kept) < len(rows):
            self.folder.replace(FILE, (json.dumps(row).encode() for row in kept))
