"""CSV and JSON-lines manifests: one row an image, with columns path, label, caption, split, key."""

import csv
import json
import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TextIO

from embprobe import console
from embprobe.data.listing import Item, Source, by_key, checked_file, opened
from embprobe.data.names import SPLIT_NAMES
from embprobe.errors import UserError

MOST_LINE = 1 << 20  # characters; a file without line ends would be read whole
MOST_COLUMNS = 1000
ALIASES = {"file_name": "path", "text": "caption"}  # as folders of Hugging Face's `imagefolder` have them
METADATA = ("metadata.csv", "metadata.jsonl")  # what they lie beside images as


def list_manifest(path: Path) -> Source:
    """The images a manifest names, by paths relative to it; `key` (else the path) names an image in the set.

    Absolute paths without a key are named below the folder that they share. Raises UserError, with the line, for a
    missing path or file, or an unknown split.
    """
    with checked_file(path).open(encoding="utf-8-sig", newline="") as stream:
        rows = list(read_rows(stream, str(path)))
    files, shared = [path], shared_folder([row["path"] for _, row in rows if "path" in row and "key" not in row])
    items = []
    for line, row in rows:
        if "path" not in row:
            raise UserError(f"{path}, line {line}: no `path`; every row needs one")
        file = path.parent / row["path"]
        try:
            checked_file(file)
        except (UserError, ValueError) as error:  # ValueError for a NUL in the path
            raise UserError(f"{path}, line {line}: {error} (paths are relative to the manifest)") from None
        name = os.path.relpath(row["path"], shared) if Path(row["path"]).is_absolute() else row["path"]
        key = unicodedata.normalize("NFC", row.get("key", name))
        split = told_split(row, f"{path}, line {line}")
        items.append(Item(key, partial(opened, file), file.stat().st_size, row.get("label"), row.get("caption"), split))
        files.append(file)
    return Source("manifest", path.stem, by_key(items), files, described=True)


def shared_folder(paths: Sequence[str]) -> str:
    """The folder that all absolute paths lie below."""
    folders = [str(Path(os.path.normpath(path)).parent) for path in paths if Path(path).is_absolute()]
    return os.path.commonpath(folders) if folders else os.sep


def told_split(row: Mapping[str, str], place: str) -> str | None:
    """The split that a row names. Raises UserError for one that is none."""
    split = SPLIT_NAMES.get(row["split"].lower()) if "split" in row else None
    if "split" in row and split is None:
        raise UserError(f'{place}: split "{row["split"]}" is none of train, val, test')
    return split


# ---- metadata.csv and metadata.jsonl beside images


def is_sheet(name: str) -> bool:
    """Whether a relative POSIX path is that of a table that may tell of the images beside it."""
    parts = PurePosixPath(name).parts
    return parts[-1] in METADATA and not any(part.startswith(".") or part == "__MACOSX" for part in parts)


def described_beside(
    items: Sequence[Item], places: Sequence[str], sheets: Mapping[str, Callable[[], TextIO]], where: str
) -> tuple[list[Item], list[str]]:
    """The images with what tables beside them tell, by names relative to each table's folder, and the tables used.

    `places` are where the items lie below `where`, and the tables by their names there. A table that names no images
    is left aside. Raises UserError for a row whose image is not there.
    """
    found, used = dict(zip(places, items, strict=True)), []
    for name, opens in sheets.items():
        with opens() as stream:
            rows = sheet_rows(stream, f"{where}/{name}")
        for line, row in rows:
            place = f"{where}/{name}, line {line}"
            if "path" not in row:
                raise UserError(f"{place}: no `file_name`; every row needs one")
            image = os.path.normpath(PurePosixPath(name).parent / row["path"])
            if image not in found:
                raise UserError(f'{place}: there is no image "{row["path"]}" beside it; mend the row')
            split = told_split(row, place)
            found[image] = replace(found[image], caption=row.get("caption"), split=split, label=row.get("label"))
        used += [name] if rows else []
    return list(found.values()), used


def sheet_rows(stream: TextIO, place: str) -> list[tuple[int, dict[str, str]]]:
    """The rows of a table beside images; none, and a word about it, where it is about something else."""
    try:
        rows = list(read_rows(stream, place))
    except NoPathsError:
        rows = []
    if any("path" in row for _, row in rows):
        return rows
    console.say(f"{place} has no `file_name`, so it is not about these images: left aside")
    return []


# ---- rows


class NoPathsError(UserError):
    """A table without a column of paths."""


def read_rows(file: TextIO, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line numbers from 1 and the non-empty fields of each row, as text."""
    try:
        if name.lower().endswith(".csv"):
            reader = csv.DictReader(lines(file))
            names = [ALIASES.get(n, n) for n in reader.fieldnames or ()]
            if "path" not in names:
                raise NoPathsError(f"{name} has no column `path` or `file_name`; its first line must name the columns")
            if len(names) > MOST_COLUMNS:
                raise ValueError(f"{len(names):,} columns")
            for row in reader:
                yield reader.line_num, renamed({k: v for k, v in row.items() if isinstance(k, str) and v})
        else:
            for number, text in enumerate(lines(file), 1):
                if text.strip():
                    yield number, renamed(json_fields(json.loads(text)))
    except (ValueError, TypeError, RecursionError, csv.Error) as error:
        raise UserError(f"cannot read {name} ({error}); it must be CSV or JSON lines in UTF-8") from None


def renamed(row: dict[str, str]) -> dict[str, str]:
    """The fields under our names; one that is there under both stays as it is."""
    return {ALIASES[k] if k in ALIASES and ALIASES[k] not in row else k: v for k, v in row.items()}


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
