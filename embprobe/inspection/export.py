"""An artefact as files that other tools read: arrays of numpy, PNGs in folders by class, a Hugging Face folder."""

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embprobe import console, signals
from embprobe.data.names import SPLITS
from embprobe.errors import UserError
from embprobe.page.pictures import png
from embprobe.store import Array, Artefact, Json, array_names
from embprobe.views import Decoder, Embeddings, Images, Latents, Samples

if TYPE_CHECKING:
    import numpy as np

MAIN = {
    "ingest": "images",
    "sample": "images",
    "decode": "reconstructions",
    "extract": "embeddings",
    "compress": "latents",
}
"""The array that rows are of, by stage."""
PICTURES = ("images", "reconstructions")
SIDE_FILES = ("classes.json", "key.jsonl", "caption.jsonl", "factors.json")
BLOCK_BYTES = 32 << 20  # of rows held at a time
UNSAFE = str.maketrans(dict.fromkeys('/\\:*?"<>|\x00', "_"))


@dataclass(frozen=True)
class Exported:
    """The rows of an artefact, and what is known of each."""

    rows: Array
    splits: "Sequence[str] | None"
    labels: "np.ndarray | None"  # places in `classes`
    classes: list[str]
    keys: list[str] | None
    captions: "list[str | None] | None"

    @property
    def pictures(self) -> bool:
        """Whether rows are images."""
        return self.rows.name in PICTURES


def table_of(artefact: Artefact) -> Exported:
    """What is to be exported of an artefact. Raises UserError for one that holds no rows."""
    if artefact.stage not in MAIN:
        raise UserError(
            f"{artefact.stage} {artefact.short} holds no rows to export; what {', '.join(MAIN)} make can be, and every array "
            f"with --npy (weights are plain safetensors in {artefact.path})"
        )
    rows = artefact.array(MAIN[artefact.stage])
    if artefact.stage == "sample":
        samples = Samples(artefact)
        return Exported(rows, None, samples.labels, samples.classes, None, samples.prompts)
    if artefact.stage == "decode":
        decoder = Decoder(artefact)
        return _of_images(rows, decoder.images, decoder.rows)
    views: dict[str, Callable[[Artefact], Images]] = {
        "ingest": Images,
        "extract": lambda a: Embeddings(a).images,
        "compress": lambda a: Latents(a).images,
    }
    return _of_images(rows, views[artefact.stage](artefact), None)


def _of_images(rows: Array, images: Images, chosen: "np.ndarray | None") -> Exported:
    import numpy as np

    which = np.arange(len(images)) if chosen is None else chosen
    keys, told = images.keys, images.artefact
    captions = told.read_lines("caption.jsonl") if told.has("caption.jsonl") else None
    return Exported(
        rows,
        [SPLITS[int(code)] for code in images.split[which]],
        None if images.labels is None else images.labels[which],
        images.classes,
        [keys[i] for i in which],
        None if captions is None else [captions[i] for i in which],
    )


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, which is there as a whole or not at all. Raises UserError for one that holds something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already and not empty; give a new folder")
    folder.absolute().parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.absolute().parent))
    try:
        yield scratch
        if folder.is_dir():
            folder.rmdir()
        scratch.chmod(0o777 & ~_umask())
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _blocks(rows: Array, label: str) -> Iterator[tuple[int, "np.ndarray"]]:
    """The rows as they are stored, some at a time, with the number of the first."""
    each = max(1, BLOCK_BYTES // max(1, rows.row_bytes))
    with console.progress(label, total=len(rows), unit="rows") as bar:
        for start in range(0, len(rows), each):
            signals.check()
            part = rows.read(start, start + each)
            yield start, part
            bar.advance(len(part))


# ---- a report's page


def export_html(artefact: Artefact, file: Path) -> None:
    """The page of a report, which needs no other file. Raises UserError where something else has that name."""
    if not artefact.has("report.html"):
        raise UserError(f"{artefact.stage} {artefact.short} has no page; --html takes that of a report")
    if file.exists():
        raise UserError(f"{file} is there already; give a new name")
    file.absolute().parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    beside.write_bytes(artefact.folder.read("report.html"))
    beside.rename(file)


# ---- numpy


def export_npy(artefact: Artefact, folder: Path) -> None:
    """Every array as NAME.npy, numbers stored as bf16 or int8 as f32; labels, splits and names of the data set beside."""
    import numpy as np

    names = array_names(artefact.folder)
    if not names:
        raise UserError(f"{artefact.stage} {artefact.short} holds no array; its files are in {artefact.path}")
    with new_folder(folder) as scratch:
        for name in names:
            array = artefact.array(name)
            encoded = array.attrs.get("encoding") in ("bf16", "int8")
            kind = np.dtype(np.float32) if encoded else array.dtype
            out = np.lib.format.open_memmap(scratch / f"{name}.npy", mode="w+", dtype=kind, shape=array.shape)
            for start, part in _blocks(array, f"writing {name}.npy"):
                rows = slice(start, start + len(part))
                out[rows] = array.floats(rows) if encoded else part
            out.flush()
        for file in SIDE_FILES:
            if artefact.has(file):
                (scratch / file).write_bytes(artefact.folder.read(file))
        if artefact.stage in ("extract", "compress"):
            _beside(table_of(artefact), scratch)


def _beside(table: Exported, folder: Path) -> None:
    """What is known of each row, as files."""
    import numpy as np

    if table.labels is not None:
        np.save(folder / "label.npy", table.labels)
        (folder / "classes.json").write_text(json.dumps(table.classes, ensure_ascii=False, indent=1))
    if table.splits is not None:
        np.save(folder / "split.npy", np.array([SPLITS.index(s) for s in table.splits], np.uint8))
    for name, values in (("key", table.keys), ("caption", table.captions)):
        if values is not None:
            text = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
            (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


# ---- PNG


def export_png(artefact: Artefact, folder: Path) -> None:
    """Every image as PNG in SPLIT/CLASS/, and metadata.csv with file_name, label, caption and key, as imagefolder reads it."""
    table = table_of(artefact)
    if not table.pictures:
        raise UserError(f"{artefact.stage} {artefact.short} holds no images; --npy and --hf take its numbers")
    with new_folder(folder) as scratch, (scratch / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        lists = {"caption": table.captions, "key": table.keys}
        heads = ["label"] * (table.labels is not None) + [name for name, values in lists.items() if values is not None]
        writer.writerow(["file_name", *heads])
        digits = len(str(max(0, len(table.rows) - 1)))
        for start, part in _blocks(table.rows, "writing PNG files"):
            for number, image in enumerate(part, start):
                place = _place(table, number)
                (scratch / place).mkdir(parents=True, exist_ok=True)
                name = f"{place}/{number:0{digits}d}.png".removeprefix("./")
                (scratch / name).write_bytes(png(image[..., 0] if image.shape[-1] == 1 else image))
                told = {"label": _class(table, number)}
                told |= {head: values[number] for head, values in lists.items() if values is not None}
                writer.writerow([name, *(told[head] for head in heads)])


def _class(table: Exported, number: int) -> str | None:
    return None if table.labels is None else table.classes[int(table.labels[number])]


def _place(table: Exported, number: int) -> str:
    """The folder of a row: its split and class, as far as there are any."""
    label = _class(table, number)
    parts = [table.splits[number] if table.splits is not None else None, label and _safe(label)]
    return "/".join(part for part in parts if part) or "."


def _safe(name: str) -> str:
    """A class name as a folder may be called."""
    plain = name.translate(UNSAFE).strip(". ")
    return plain or "_"


# ---- Hugging Face


def export_hf(artefact: Artefact, folder: Path) -> None:
    """Parquet files in data/, one a split, that `datasets.load_dataset(FOLDER)` reads with images, labels and captions."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise UserError("--hf needs pyarrow, which is not installed; pip install 'embprobe[hf]'") from None
    table = table_of(artefact)
    schema, splits = _schema(table), list(dict.fromkeys(table.splits or ["train"]))
    with new_folder(folder) as scratch:
        (scratch / "data").mkdir()
        writers = {
            split: parquet.ParquetWriter(scratch / "data" / f"{split}-00000-of-00001.parquet", schema)
            for split in splits
        }
        for start, part in _blocks(table.rows, "writing Parquet files"):
            numbers = range(start, start + len(part))
            for split, writer in writers.items():
                mine = [n for n in numbers if (table.splits[n] if table.splits is not None else "train") == split]
                if mine:
                    writer.write_table(pyarrow.table(_columns(table, mine, part, start), schema=schema))
        for writer in writers.values():
            writer.close()


def _columns(
    table: Exported, numbers: list[int], part: "np.ndarray", start: int
) -> dict[str, list[Any]]:  # Any: of Arrow
    floats = None if table.pictures else table.rows.floats(slice(start, start + len(part)))
    columns: dict[str, list[Any]] = {}
    if table.pictures:
        shown = (part[n - start] for n in numbers)
        columns["image"] = [
            {"bytes": png(image[..., 0] if image.shape[-1] == 1 else image), "path": f"{n:08d}.png"}
            for n, image in zip(numbers, shown, strict=True)
        ]
    else:
        assert floats is not None
        columns[table.rows.name] = [floats[n - start].tolist() for n in numbers]
    if table.labels is not None:
        columns["label"] = [int(table.labels[n]) for n in numbers]
    for name, values in (("caption", table.captions), ("key", table.keys)):
        if values is not None:
            columns[name] = [values[n] for n in numbers]
    return columns


def _schema(table: Exported) -> Any:  # Any: pyarrow has no types
    """Arrow's schema, with what `datasets` wants to know of it."""
    import pyarrow as pa

    fields: list[Any] = []  # Any: pyarrow types
    features: dict[str, Json] = {}
    if table.pictures:
        fields.append(("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
        features["image"] = {"_type": "Image"}
    else:
        kind, shape = pa.float32(), table.rows.shape[1:]
        for _ in shape:
            kind = pa.list_(kind)
        fields.append((table.rows.name, kind))
        features[table.rows.name] = {"_type": f"Array{len(shape)}D", "shape": list(shape), "dtype": "float32"}
    if table.labels is not None:
        fields.append(("label", pa.int64()))
        features["label"] = {"_type": "ClassLabel", "names": table.classes}
    for name, values in (("caption", table.captions), ("key", table.keys)):
        if values is not None:
            fields.append((name, pa.string()))
            features[name] = {"_type": "Value", "dtype": "string"}
    told = json.dumps({"info": {"features": features}}, ensure_ascii=False).encode()
    return pa.schema(fields, metadata={b"huggingface": told})
