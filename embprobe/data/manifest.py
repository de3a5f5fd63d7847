"""CSV and JSON-lines manifests: one row an image, with columns path, label, caption, split, key."""

import csv
import json
import unicodedata
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TextIO

from embprobe.data.listing import Item, Source, by_key, checked_file, opened
from embprobe.data.names import SPLIT_NAMES
from embprobe.errors import UserError

MOST_LINE = 1 << 20  # characters; a file without line ends would be read whole
MOST_COLUMNS = 1000


def list_manifest(path: Path) -> Source:
    """The images a manifest names, by paths relative to it; `key` (else the path) names an image in the set.

    Raises UserError, with the line, for a missing path or file, an unknown split, or an absolute path without a key.
    """
    items, files = [], [path]
    for line, row in read_rows(path):
        if "path" not in row:
            raise UserError(f"{path}, line {line}: no `path`; every row needs one")
        file = path.parent / row["path"]
        try:
            checked_file(file)
        except (UserError, ValueError) as error:  # ValueError for a NUL in the path
            raise UserError(f"{path}, line {line}: {error} (paths are relative to the manifest)") from None
        if "key" not in row and Path(row["path"]).is_absolute():
            raise UserError(f"{path}, line {line}: an absolute path needs a `key`; give one, or a relative path")
        split = SPLIT_NAMES.get(row["split"].lower()) if "split" in row else None
        if "split" in row and split is None:
            raise UserError(f'{path}, line {line}: split "{row["split"]}" is none of train, val, test')
        key = unicodedata.normalize("NFC", row.get("key", row["path"]))
        items.append(Item(key, partial(opened, file), file.stat().st_size, row.get("label"), row.get("caption"), split))
        files.append(file)
    return Source("manifest", path.stem, by_key(items), files, described=True)


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers from 1 and the non-empty fields of each row, as text."""
    try:
        with checked_file(path).open(encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() == ".csv":
                reader = csv.DictReader(lines(file))
                if reader.fieldnames is None or "path" not in reader.fieldnames:
                    raise UserError(f"{path} has no column `path`; its first line must name the columns")
                if len(reader.fieldnames) > MOST_COLUMNS:
                    raise ValueError(f"{len(reader.fieldnames):,} columns")
                for row in reader:
                    yield reader.line_num, {k: v for k, v in row.items() if isinstance(k, str) and v}
            else:
                for number, text in enumerate(lines(file), 1):
                    if text.strip():
                        yield number, json_fields(json.loads(text))
    except (ValueError, TypeError, RecursionError, csv.Error) as error:
        raise UserError(f"cannot read {path} ({error}); it must be CSV or JSON lines in UTF-8") from None


def lines(file: TextIO) -> Iterator[str]:
    """The lines of a file. Raises ValueError for one that is longer than any row."""
    while text := file.readline(MOST_LINE + 1):
        if len(text) > MOST_LINE:
            raise ValueError(f"a line of more than {MOST_LINE:,} characters")
        yield text


def json_fields(row: object) -> dict[str, str]:
    """The fields of a JSON row that are not null or empty, as text; TypeError where the row is no object."""
    if not isinstance(row, dict):
        raise TypeError(f"{json.dumps(row)[:40]} is not an object")
    fields = {name: str(value) for name, value in row.items() if value is not None and value != ""}
    "".join(fields.values()).encode()  # a ValueError where JSON spells what is no character
    return fields
