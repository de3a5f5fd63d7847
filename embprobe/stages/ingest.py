"""Ingest: a folder, zip, tar shards, a manifest or planted scenes → square u8 images with labels and splits."""

import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from embprobe import console, signals
from embprobe.errors import UserError
from embprobe.stage import Stage, opt
from embprobe.store import Array, Artefact, Json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from embprobe.data.catalogue import Catalogue
    from embprobe.data.decode import BadImage, Decoded
    from embprobe.data.sources import Item, Source

PLANTED = "planted"
CHUNK_BYTES = 4 << 20
FILES_ONLY = ("label_regex", "skip_bad", "limit")


@dataclass(frozen=True, kw_only=True)
class Ingest(Stage):
    """Store images as centre-cropped squares, with labels, captions and splits.

    The source is a folder (one folder a class, or flat), a zip, webdataset .tar shards, a CSV or JSON-lines manifest
    (columns path, label, caption, split, key), or `planted`: scenes drawn from known factors.
    """

    source: str = opt("a folder, .zip, .tar, a{000..003}.tar, .csv, .jsonl, or `planted`", path=True)
    size: int = opt("side of the stored squares in pixels", 64)
    label_regex: str | None = opt("class = first group of this in a file's name inside the set", None)
    val_share: float = opt("share of training images held out where the source has no validation split", 0.1)
    seed: int = opt("seed of the split, of --limit, and of planted scenes", 0)
    limit: int | None = opt("take only so many images, each class and split in its share", None)
    skip_bad: bool = opt("list and skip images that can't be decoded, instead of stopping", False)
    count: int = opt("how many scenes (planted only)", 2000)
    device: str = opt("taken as by every stage; decoding runs on the CPU", "auto", runtime=True)
    threads: int | None = opt("decoding threads; one a core if not given", None, runtime=True)

    def __post_init__(self) -> None:
        from embprobe.data.names import label_pattern

        for name, least in (("size", 8), ("count", 1), ("limit", 1), ("threads", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UserError(f"--{name} is {value}; it must be at least {least}")
        if not 0 <= self.val_share < 1:
            raise UserError(f"--val-share is {self.val_share}; it must be at least 0 and below 1")
        if self.label_regex is not None:
            label_pattern(self.label_regex)
        given = [name for name in FILES_ONLY if self.planted and getattr(self, name)]
        if given:
            raise UserError(
                f"--{given[0].replace('_', '-')} does not apply to planted scenes; leave it out (--count says how many)"
            )

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
        from embprobe.store.hashes import HashTable
        from embprobe.data.sources import content_hash

        table = HashTable()
        content = content_hash(self.listing, table)
        table.save()
        return content

    def spec(self) -> dict[str, Json]:
        """The source counts by its content; options that do not touch it are left out."""
        spec = super().spec()
        for name in FILES_ONLY if self.planted else ("count",):
            del spec[name]
        return spec | {"source": PLANTED if self.planted else self.content}

    def options(self) -> dict[str, Json]:
        """The options as given, with the source's absolute path."""
        source = self.source if self.planted else str(Path(self.source).expanduser().absolute())
        return super().options() | {"source": source}

    def work(self) -> float:
        """Images to store."""
        if self.planted:
            return float(self.count)
        return float(min(len(self.listing.items), self.limit or len(self.listing.items)))

    def disk(self) -> int:
        """Bytes of the squares."""
        return int(self.work()) * 3 * self.size**2

    def run(self, out: Artefact) -> None:
        if self.planted:
            draw(self, out)
        else:
            store_files(self, out)


def draw(stage: Ingest, out: Artefact) -> None:
    """Writes planted scenes and their factors."""
    from embprobe.data.planted import FACTORS, factors_json, planted_factors, scenes
    from embprobe.data.split import seeded_split, split_codes

    factors = planted_factors(stage.seed, stage.count)
    classes = FACTORS[0].values
    ids = [int(kind) for kind in factors[:, 0]]
    keys = [f"{index:07d}" for index in range(stage.count)]
    splits, rule = seeded_split(keys, [classes[kind] for kind in ids], None, stage.val_share, stage.seed)
    write_rows(out, keys, split_codes(splits), ids, classes)
    out.write_json("factors.json", factors_json())
    write_column(out, "factors", factors, "float32")
    images = create_images(out, stage.count, stage.size)
    with console.progress("drawing", total=stage.count, unit="img", start=done(images)) as bar:
        for chunk in images.missing():
            signals.check()
            rows = images.rows_of(chunk)
            images.write_chunk(chunk, scenes(stage.seed, rows.start, rows.stop, stage.size).images)
            bar.advance(len(rows))
    counts = {split: splits.count(split) for split in ("train", "val") if split in splits}
    out.note(count=stage.count, size=stage.size, classes=len(classes), splits=counts, split_rule=rule, bad=[])
    out.note(source={"kind": PLANTED, "files": 0})


def store_files(stage: Ingest, out: Artefact) -> None:
    """Decodes a source's images into squares, chunk by chunk."""
    from embprobe.data.catalogue import catalogue
    from embprobe.data.decode import RECIPE
    from embprobe.data.split import split_codes

    source = stage.listing
    chosen = catalogue(
        source, label_regex=stage.label_regex, val_share=stage.val_share, seed=stage.seed, limit=stage.limit
    )
    bad: list[Json] = bad_files(stage, out, chosen) if stage.skip_bad else []
    chosen = without(chosen, {row["key"] for row in bad})
    keys = [item.key for item in chosen.items]
    write_rows(out, keys, split_codes(chosen.splits), chosen.class_ids(), chosen.classes)
    captions = chosen.captions()
    if captions is not None:
        out.write_lines("caption.jsonl", captions)
    sizes = write_images(stage, out, chosen.items)
    out.note(count=len(keys), size=stage.size, splits=chosen.split_counts(), split_rule=chosen.split_rule, bad=bad)
    if chosen.labels is not None:
        out.note(classes=len(chosen.classes))
    out.note(upscaled=upscaled(sizes, stage.size), preprocessing=RECIPE)
    out.note(source={"kind": source.kind, "files": len(source.items)})


def bad_files(stage: Ingest, out: Artefact, chosen: "Catalogue") -> list[Json]:
    """Key and reason of every image that can't be decoded, from a first pass over all; kept in `bad.jsonl`."""
    if not out.has("bad.jsonl"):
        bad = []
        results = in_order(chosen.items, stage.size, stage.threads)
        with closing(results), console.progress("checking", total=len(chosen.items), unit="img") as bar:
            for item, result in results:
                signals.check()
                if isinstance(result, Exception):
                    bad.append({"key": item.key, "reason": str(result)})
                bar.advance()
        out.write_lines("bad.jsonl", bad)
    return out.read_lines("bad.jsonl")


def without(chosen: "Catalogue", bad: set[str]) -> "Catalogue":
    """The rows whose keys are not bad; raises UserError if none is left."""
    kept = [position for position, item in enumerate(chosen.items) if item.key not in bad]
    if not kept:
        raise UserError("not one image could be decoded; check the source")
    return chosen.only(kept)


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


def create_images(out: Artefact, count: int, size: int) -> Array:
    """The array `images` u8 (count,size,size,3), in chunks of about 4 MiB."""
    chunk_rows = max(1, CHUNK_BYTES // (3 * size * size))
    return out.create("images", (count, size, size, 3), "uint8", chunk_rows=chunk_rows)


def write_images(stage: Ingest, out: Artefact, items: "Sequence[Item]") -> Array:
    """Decodes and writes the chunks that are missing; returns `original_size` i32 (N,2), height and width."""
    import numpy as np

    images = create_images(out, len(items), stage.size)
    sizes = out.create("original_size", (len(items), 2), "int32", chunk_rows=images.chunk_rows)
    missing = sorted({*images.missing(), *sizes.missing()})
    todo = [items[row] for chunk in missing for row in images.rows_of(chunk)]
    results = in_order(todo, stage.size, stage.threads)
    start = len(items) - len(todo)
    with closing(results), console.progress("decoding", total=len(items), unit="img", start=start) as bar:
        for chunk in missing:
            signals.check()
            rows = images.rows_of(chunk)
            squares = [good(stage, *next(results)) for _ in rows]
            sizes.write_chunk(chunk, np.array([(square.height, square.width) for square in squares]))
            images.write_chunk(chunk, np.stack([square.pixels for square in squares]))
            bar.advance(len(rows))
    return sizes


def good(stage: Ingest, item: "Item", result: "Decoded | BadImage") -> "Decoded":
    """A decoded image; a bad one stops the run with its name."""
    if isinstance(result, Exception):
        remedy = (
            "run again to list and skip it"
            if stage.skip_bad
            else "remove it, or pass --skip-bad to list and skip such files"
        )
        raise UserError(f"cannot read {item.key} in {stage.source} ({result}); {remedy}")
    return result


def in_order(items: "Sequence[Item]", size: int, threads: int | None) -> "Generator[tuple[Item, Decoded | BadImage]]":
    """Items with what decoding gave, in order; a pool of threads works a few images ahead."""
    from collections import deque
    from concurrent.futures import Future, ThreadPoolExecutor

    from embprobe.data.sources import read_image

    workers = threads or len(os.sched_getaffinity(0))
    ahead: deque[tuple[Item, Future[Decoded | BadImage]]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for item in items:
            ahead.append((item, pool.submit(read_image, item, size)))
            if len(ahead) > 4 * workers:
                first, result = ahead.popleft()
                yield first, result.result()
        while ahead:
            first, result = ahead.popleft()
            yield first, result.result()
    finally:
        pool.shutdown(cancel_futures=True)


def upscaled(sizes: Array, size: int) -> int:
    """How many originals were smaller than the stored squares."""
    return sum(int((sizes.chunk(chunk).min(axis=1) < size).sum()) for chunk in range(sizes.n_chunks))


def done(images: Array) -> int:
    """How many images are written."""
    return images.shape[0] - sum(len(images.rows_of(chunk)) for chunk in images.missing())
