"""Parquet and Arrow files with image bytes, as Hugging Face `datasets` writes them: rows → items."""

import io
import itertools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Any

from embprobe.data.batches import Pictures, read_batches, readable, schema_of
from embprobe.data.decode import MAX_BYTES
from embprobe.data.listing import Item, Source, checked_file
from embprobe.data.names import SPLIT_NAMES, first_repeated
from embprobe.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

IMAGES = ("image", "img", "picture", "jpg", "png", "webp")  # what columns are usually called, the likeliest first
LABELS = ("label", "labels", "fine_label", "class", "cls")
CAPTIONS = ("caption", "text")
MOST_ROWS = 10_000_000
MOST_COLUMNS = 10_000
MOST_JSON = 1 << 26  # bytes of what `datasets` notes beside its files


@dataclass(frozen=True)
class Columns:
    """Which column of a table is what; `names` of a ClassLabel's numbers."""

    image: str
    path: bool  # whether the image's own name stands beside its bytes
    label: str | None
    names: Sequence[str] | None
    caption: str | None
    split: str | None
    key: str | None


def list_saved(folder: Path) -> Source:
    """The rows of what `save_to_disk` wrote: one data set, or a folder for each split."""
    noted = folder / "dataset_dict.json"
    if not noted.is_file():
        return list_tables([(file, None) for file in data_files(folder)], folder.resolve().name)
    splits = noted_in(noted, "splits")
    files = [(file, named_split(split, noted)) for split in splits for file in data_files(inside(folder, split, noted))]
    return list_tables(files, folder.resolve().name, [noted])


def data_files(folder: Path) -> list[Path]:
    """The Arrow files of one saved data set: those that it names, not what was cached beside them."""
    state = folder / "state.json"
    found = [row.get("filename") if isinstance(row, dict) else None for row in noted_in(state, "_data_files")]
    return [inside(folder, name, state) for name in found]


def noted_in(file: Path, key: str) -> list[Any]:  # Any: JSON
    """A list in a JSON file. Raises UserError where there is none."""
    try:
        with checked_file(file).open(encoding="utf-8") as stream:
            found = json.loads(stream.read(MOST_JSON))[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"cannot read {file} ({error}); save the data set again with save_to_disk") from None
    if not isinstance(found, list):
        raise UserError(f"{file} has no list `{key}`; save the data set again with save_to_disk")
    return found


def inside(folder: Path, name: object, told_by: Path) -> Path:
    """What lies in the folder itself under a name. Raises UserError for a name that leads elsewhere."""
    if not isinstance(name, str) or name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
        raise UserError(f"{told_by} names {name!r}, which is no file beside it; save the data set again")
    return folder / name


def named_split(word: object, told_by: Path) -> str:
    """The split that a word means. Raises UserError for one that is none."""
    split = SPLIT_NAMES.get(str(word).lower())
    if split is None:
        raise UserError(
            f'{told_by}: split "{word}" is none of train, val, test; give the folder of the split that is meant'
        )
    return split


def list_table_files(files: Sequence[Path], root: Path) -> Source:
    """The rows of Parquet or Arrow files below a folder, whose names (`train-00000-of-00002`) or folders tell splits."""
    told = [(file, split_in_name(file.relative_to(root))) for file in files]
    if any(split is None for _, split in told) and any(split is not None for _, split in told):
        stray = next(file for file, split in told if split is None)
        raise UserError(f'the name of "{stray}" tells no split but others do; rename or remove it')
    return list_tables(told, files[0].stem if len(files) == 1 else root.resolve().name)


def split_in_name(path: Path) -> str | None:
    """The split that a part of a file's name, or a folder above it, is called."""
    words = [*path.parts[:-1], *re.split(r"[-_.]", path.stem)]
    return next((SPLIT_NAMES[word.lower()] for word in words if word.lower() in SPLIT_NAMES), None)


def list_tables(files: Sequence[tuple[Path, str | None]], name: str, beside: Sequence[Path] = ()) -> Source:
    """Every row of every file, in their order: reading goes through a file once.

    A row's key is its `key`, or the path beside its bytes where every row has one of its own, else its split and number.
    """
    rows: list[Listed] = []
    pictures = Pictures()
    for file, split in sorted(files, key=lambda f: (f[1] or "", str(f[0]))):
        with readable(file):
            rows += itertools.islice(list_rows(file, split, pictures), MOST_ROWS + 1 - len(rows))
        if len(rows) > MOST_ROWS:
            raise UserError(f"{name} holds more than {MOST_ROWS:,} rows; give a part of it")
    items = [Item(key, *told) for key, (_, *told) in zip(keys_of(rows), rows, strict=True)]
    return Source("table", name, items, [*(file for file, _ in files), *beside], described=True)


Listed = tuple[str | None, Any, int, str | None, str | None, str | None]  # Any: how an Item opens its bytes


def keys_of(rows: Sequence[Listed]) -> list[str]:
    """A name for every row that does not depend on how the rows lie in files."""
    told = [row[0] for row in rows]
    if all(told):
        names = [unicodedata.normalize("NFC", str(key)) for key in told]
        if any(key.startswith("/") for key in names):
            names = [PurePosixPath(key).name for key in names]
        if first_repeated(names) is None:
            return names
    counts: Counter[str] = Counter()
    keys = []
    for row in rows:
        split = row[-1] or ""
        keys.append(f"{split}/{counts[split]:08d}".lstrip("/"))
        counts[split] += 1
    return keys


def list_rows(file: Path, split: str | None, pictures: Pictures) -> Iterator[Listed]:
    """Key, how to open, most bytes, label, caption and split of each row."""
    schema = schema_of(file)
    columns = columns_of(schema, file)
    wanted = [name for name in (columns.label, columns.caption, columns.split, columns.key) if name]
    wanted += [f"{columns.image}.path"] if columns.path else []
    number = 0
    for batch in read_batches(file, wanted):
        told = {name: batch.column(name.partition(".")[0]).to_pylist() for name in wanted}
        for place in range(batch.num_rows):
            row = {name: values[place] for name, values in told.items()}
            opens = partial(opened_row, pictures, file, columns.image, number)
            yield (key_in(row, columns), opens, MAX_BYTES, label_in(row, columns, file), caption_in(row, columns),
                   split_in(row, columns, file) or split)  # fmt: skip
            number += 1


def opened_row(pictures: Pictures, file: Path, column: str, row: int) -> IO[bytes]:
    """The bytes of one row's image."""
    return io.BytesIO(pictures.row(file, column, row))


def key_in(row: dict[str, Any], columns: Columns) -> str | None:  # Any: what a column may hold
    if columns.key and row[columns.key]:
        return str(row[columns.key])
    beside = row.get(f"{columns.image}.path")
    path = beside.get("path") if isinstance(beside, dict) else beside
    return str(path) if path else None


def label_in(row: dict[str, Any], columns: Columns, file: Path) -> str | None:  # Any: what a column may hold
    """The class of a row; a ClassLabel's -1 is none. Raises UserError for a number without a name."""
    value = row.get(columns.label or "")
    if value is None or columns.names is None or isinstance(value, str):
        return None if value is None else str(value)
    if int(value) == -1:
        return None
    if not 0 <= int(value) < len(columns.names):
        raise UserError(f"{file}: label {value} is none of the {len(columns.names)} classes that the file names")
    return columns.names[int(value)]


def caption_in(row: dict[str, Any], columns: Columns) -> str | None:  # Any: what a column may hold
    return str(row[columns.caption]) if columns.caption and row[columns.caption] else None


def split_in(row: dict[str, Any], columns: Columns, file: Path) -> str | None:  # Any: what a column may hold
    return named_split(row[columns.split], file) if columns.split and row[columns.split] else None


def columns_of(schema: "pa.Schema", file: Path) -> Columns:
    """Which column is what, by the features that `datasets` notes, by type and by name. Raises UserError."""
    import pyarrow as pa

    if len(schema.names) > MOST_COLUMNS or len(set(schema.names)) < len(schema.names):
        raise UserError(f"{file} has {len(schema.names)} columns, too many or two of one name; keep those of images")
    kinds = {field.name: field.type for field in schema if "." not in field.name}
    structs = {name for name, kind in kinds.items() if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0}
    structs = {name for name in structs if is_bytes(kinds[name].field("bytes").type)}
    image = preferred([name for name, kind in kinds.items() if name in structs or is_bytes(kind)], IMAGES)
    if image is None:
        raise UserError(
            f"{file} holds no column of images, or several; an `image` is the bytes of a file, or {{bytes, path}}"
        )
    features, words = features_in(schema), [n for n, kind in kinds.items() if is_text(kind)]
    named = {
        n: f.get("names")
        for n, f in features.items()
        if isinstance(f, dict) and f.get("_type") == "ClassLabel" and n in kinds
    }
    named = {n: v for n, v in named.items() if isinstance(v, list) and all(isinstance(word, str) for word in v)}
    plain = [n for n in LABELS if n in kinds and (n in words or pa.types.is_integer(kinds[n]))]
    label = preferred(list(named), LABELS) or (plain[0] if plain else None)
    caption = next((name for name in CAPTIONS if name in words and name != label), None)
    split, key = (name if name in words else None for name in ("split", "key"))
    has_path = image in structs and kinds[image].get_field_index("path") >= 0
    return Columns(image, has_path, label, named.get(label or ""), caption, split, key)


def preferred(found: Sequence[str], usual: Sequence[str]) -> str | None:
    """The likeliest of several columns, or the only one."""
    return next((name for name in usual if name in found), found[0] if len(found) == 1 else None)


def is_bytes(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def is_text(kind: "pa.DataType") -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def features_in(schema: "pa.Schema") -> dict[str, Any]:  # Any: JSON
    """What `datasets` notes of the columns, in the schema of every file; nothing in files by others."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}
