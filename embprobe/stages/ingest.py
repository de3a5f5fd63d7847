"""Ingest: a folder, zip, tar shards, a manifest, arrays or planted scenes → u8 images with labels and splits."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from embprobe import console, signals
from embprobe.chunks import fill
from embprobe.errors import UserError
from embprobe.stage import Stage, dashed, option
from embprobe.store import Array, Artefact, Json

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    from numpy.typing import NDArray

    from embprobe.data.catalogue import Catalogue
    from embprobe.data.decode import BadImage, Decoded
    from embprobe.data.duplicates import Marks
    from embprobe.data.listing import Item, Source

PLANTED = "planted"
CHUNK_BYTES = 4 << 20
SIZES = 1 << 16  # rows of original sizes in a file, about
BATCH = 64  # images decoded at a time
FILES_ONLY = ("label_regex", "skip_bad", "limit")


@dataclass(frozen=True, kw_only=True)
class Ingest(Stage):
    """Store images as centre-cropped squares, with labels, captions and splits.

    The source is a folder (one folder a class, or flat), a zip, webdataset .tar shards, a CSV or JSON-lines manifest
    (columns path, label, caption, split, key), or `planted`: scenes drawn from known factors. Arrays, u8 (N,H,W) or
    (N,H,W,C) as .npy or as `images` in an .npz with the same columns, are stored as they are. Exact and near copies,
    within and across splits, are listed in duplicates.jsonl.
    """

    version = 3

    source: str = option("a folder, .zip, .tar, a{000..003}.tar, .csv, .jsonl, .npy, .npz, or `planted`", path=True)
    size: int = option("side of the stored squares in pixels; arrays keep theirs", 64, least=8, most=8192)
    label_regex: str | None = option("class = first group of this in a file's name inside the set", None)
    val_share: float = option(
        "share of training images held out where the source has no validation split", 0.1, least=0, below=1
    )
    seed: int = option("seed of the split, of --limit, and of planted scenes", 0, least=0)
    limit: int | None = option("take only so many images, each class and split in its share", None, least=1)
    skip_bad: bool = option("list and skip images that can't be decoded, instead of stopping", False)
    count: int = option("how many scenes (planted only)", 2000, least=1, most=1_000_000)
    vary: tuple[str, ...] = option("factors that vary from scene to scene; else all (planted only)", (), later=True)
    device: str = option("taken as by every stage; decoding runs on the CPU", "auto", runtime=True)
    threads: int | None = option("decoding threads; one a core if not given", None, runtime=True, least=1, most=1024)

    def validate(self) -> None:
        from embprobe.data.names import label_pattern

        if self.label_regex is not None:
            label_pattern(self.label_regex)
        given = [name for name in FILES_ONLY if self.planted and getattr(self, name)]
        if given:
            raise UserError(f"{dashed(given[0])} does not apply to planted scenes (--count does); leave it out")
        if self.planted and self.vary:
            from embprobe.data.planted import check_factors

            check_factors(self.vary)

    @property
    def planted(self) -> bool:
        """Whether scenes are drawn; a folder of that name is `./planted`."""
        return self.source == PLANTED

    @cached_property
    def listing(self) -> "Source":
        """The source's files, listed once."""
        from embprobe.data.sources import open_source

        return open_source(self.source)

    @cached_property
    def content(self) -> str:
        """The content hash of the source."""
        from embprobe.data.sources import content_hash
        from embprobe.store.hashes import HashTable

        table = HashTable()
        content = content_hash(self.listing, table)
        table.save()
        return content

    def spec(self) -> dict[str, Json]:
        """The source counts by its content; options that do not touch it are left out."""
        spec = super().spec()
        for name in FILES_ONLY if self.planted else ("count", "vary"):
            spec.pop(name, None)
        if not self.planted and self.listing.shape is not None:
            del spec["size"]
        return spec | {"source": PLANTED if self.planted else self.content}

    def options(self) -> dict[str, Json]:
        """The options as given, with the source's absolute path."""
        source = self.source if self.planted else str(Path(self.source).expanduser().absolute())
        return super().options() | {"source": source}

    def work(self) -> float:
        """Images to store."""
        files = [] if self.planted else self.listing.items
        return float(self.count if self.planted else min(len(files), self.limit or len(files)))

    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the stored images."""
        return (not self.planted and self.listing.shape) or (self.size, self.size, 3)

    def disk(self) -> int:
        """Bytes of the images."""
        height, width, channels = self.shape()
        return int(self.work()) * height * width * channels

    def run(self, out: Artefact) -> None:
        if self.planted:
            draw(self, out)
        else:
            store_files(self, out)


def draw(stage: Ingest, out: Artefact) -> None:
    """Writes planted scenes and their factors."""
    from embprobe.data.duplicates import Marks
    from embprobe.data.planted import FACTORS, factors_json, planted_factors, scenes, varying
    from embprobe.data.split import seeded_split, split_codes

    factors = planted_factors(stage.seed, stage.count, stage.vary)
    classes = FACTORS[0].values
    ids = [int(kind) for kind in factors[:, 0]]
    keys = [f"{index:07d}" for index in range(stage.count)]
    splits, rule = seeded_split(keys, [classes[kind] for kind in ids], None, stage.val_share, stage.seed)
    write_rows(out, keys, split_codes(splits), ids, classes)
    columns = varying(stage.vary)
    out.write_json("factors.json", [factors_json()[column] for column in columns])
    write_column(out, "factors", factors[:, columns], "float32")

    def images_of(rows: range, _: None) -> "list[np.ndarray]":
        drawn = scenes(stage.seed, rows.start, rows.stop, stage.size, stage.vary).images
        marks.take(rows.start, drawn)
        return [drawn]

    images, marks = create_images(out, stage.count, stage.shape()), Marks(stage.count)
    fill([images], lambda rows: None, images_of, batch=BATCH, label="drawing")
    list_duplicates(out, images, marks, keys, splits)
    counts = {split: splits.count(split) for split in ("train", "val") if split in splits}
    out.note(count=stage.count, size=stage.size, classes=len(classes), splits=counts, split_rule=rule, bad=[])
    out.note(source={"kind": PLANTED, "files": 0})


def store_files(stage: Ingest, out: Artefact) -> None:
    """Decodes a source's images, chunk by chunk."""
    from concurrent.futures import ThreadPoolExecutor

    from embprobe.data.catalogue import catalogue
    from embprobe.data.decode import RECIPE
    from embprobe.data.duplicates import Marks
    from embprobe.data.split import split_codes

    source = stage.listing
    rows = catalogue(
        source, label_regex=stage.label_regex, val_share=stage.val_share, seed=stage.seed, limit=stage.limit
    )
    with ThreadPoolExecutor(stage.threads or len(os.sched_getaffinity(0))) as pool:
        bad: list[Json] = bad_files(stage, pool, rows, out) if stage.skip_bad else []
        rows = without(rows, {row["key"] for row in bad})
        keys = [item.key for item in rows.items]
        write_rows(out, keys, split_codes(rows.splits), rows.class_ids(), rows.classes)
        captions = rows.captions()
        if captions is not None:
            out.write_lines("caption.jsonl", captions)
        marks = Marks(len(keys))
        images, sizes = write_images(stage, pool, rows.items, out, marks)
    list_duplicates(out, images, marks, keys, rows.splits)
    height, width, _ = stage.shape()
    out.note(count=len(keys), size=height if height == width else [height, width])
    out.note(splits=rows.split_counts(), split_rule=rows.split_rule, bad=bad)
    if rows.labels is not None:
        out.note(classes=len(rows.classes))
    of_files = source.shape is None
    out.note(upscaled=upscaled(sizes, stage.size) if of_files else 0, preprocessing=RECIPE if of_files else "none")
    out.note(source={"kind": source.kind, "files": len(source.items)})


def bad_files(stage: Ingest, pool: "ThreadPoolExecutor", rows: "Catalogue", out: Artefact) -> list[Json]:
    """Key and reason of every image that can't be decoded, from a first pass over all; kept in `bad.jsonl`."""
    if not out.has("bad.jsonl"):
        bad = []
        with console.progress("checking", total=len(rows.items), unit="img") as bar:
            for start in range(0, len(rows.items), BATCH):
                signals.check()
                items = rows.items[start : start + BATCH]
                for item, result in zip(items, decoded(stage, pool, items), strict=True):
                    if isinstance(result, Exception):
                        bad.append({"key": item.key, "reason": str(result)})
                bar.advance(len(items))
        out.write_lines("bad.jsonl", bad)
    return out.read_lines("bad.jsonl")


def without(rows: "Catalogue", bad: set[str]) -> "Catalogue":
    """The rows whose keys are not bad; raises UserError if none is left."""
    kept = [position for position, item in enumerate(rows.items) if item.key not in bad]
    if not kept:
        raise UserError("not one image could be decoded; check the source")
    return rows.only(kept)


def write_rows(
    out: Artefact, keys: Sequence[str], splits: Sequence[int], ids: Sequence[int] | None, classes: Sequence[str]
) -> None:
    """Writes what is known of every image before it is decoded."""
    import numpy as np

    out.write_lines("key.jsonl", keys)
    write_column(out, "split", np.array(splits), "uint8")
    if ids is not None:
        out.write_json("classes.json", list(classes))
        write_column(out, "label", np.array(ids), "int32")


def write_column(out: Artefact, name: str, values: "NDArray[np.generic]", dtype: str) -> None:
    """Writes an array that is small beside the images."""
    out.create(name, values.shape, dtype).write(values)


def create_images(out: Artefact, count: int, shape: tuple[int, int, int]) -> Array:
    """The array `images` u8 (count,H,W,C), in chunks of about 4 MiB."""
    chunk_rows = max(1, CHUNK_BYTES // (shape[0] * shape[1] * shape[2]))
    return out.create("images", (count, *shape), "uint8", chunk_rows=chunk_rows, kind="images")


def write_images(
    stage: Ingest, pool: "ThreadPoolExecutor", items: "Sequence[Item]", out: Artefact, marks: "Marks"
) -> tuple[Array, Array]:
    """Decodes and writes the chunks that are missing; returns images and `original_size` i32 (N,2), height and width."""
    import numpy as np

    images = create_images(out, len(items), stage.shape())
    together = images.chunk_rows * max(1, SIZES // images.chunk_rows)
    sizes = out.create("original_size", (len(items), 2), "int32", chunk_rows=together)

    def read(rows: range) -> "list[Decoded]":
        chosen = items[rows.start : rows.stop]
        return [good(stage, *pair) for pair in zip(chosen, decoded(stage, pool, chosen), strict=True)]

    def arrays_of(rows: range, images: "list[Decoded]") -> "list[np.ndarray]":
        pixels = np.stack([i.pixels for i in images])
        marks.take(rows.start, pixels)
        return [pixels, np.array([(i.height, i.width) for i in images])]

    fill([images, sizes], read, arrays_of, batch=BATCH, label="decoding")
    return images, sizes


def list_duplicates(out: Artefact, images: Array, marks: "Marks", keys: Sequence[str], splits: Sequence[str]) -> None:
    """Writes `group` i32 (N,), the least row of an image and its copies, and `duplicates.jsonl`; says how many there are."""
    from embprobe.data.duplicates import duplicates

    found = duplicates(images, marks)
    write_column(out, "group", found.group, "int32")
    out.write_lines("duplicates.jsonl", found.listed(keys, splits))
    counts = found.counts(splits)
    out.note(duplicates=counts)
    if counts["exact"] or counts["near"]:
        console.say(
            f"{counts['exact']} images are exact copies of others and {counts['near']} near ones, {counts['across']} of them "
            "in another split: duplicates.jsonl lists them"
        )


def decoded(stage: Ingest, pool: "ThreadPoolExecutor", items: "Sequence[Item]") -> "list[Decoded | BadImage]":
    """What decoding gives, in order."""
    from embprobe.data.sources import read_image

    return list(pool.map(partial(read_image, size=stage.size, shape=stage.listing.shape), items))


def good(stage: Ingest, item: "Item", result: "Decoded | BadImage") -> "Decoded":
    """A decoded image; a bad one stops the run with its name."""
    if isinstance(result, Exception):
        skip = "run again" if stage.skip_bad else "remove it, or pass --skip-bad"
        raise UserError(f"cannot read {item.key} in {stage.source} ({result}); {skip} to list and skip such files")
    return result


def upscaled(sizes: Array, size: int) -> int:
    """How many originals were smaller than the stored squares."""
    return sum(int((sizes.chunk(chunk).min(axis=1) < size).sum()) for chunk in range(sizes.n_chunks))
