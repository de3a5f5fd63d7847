"""Ingest: a folder, zip, shards, tables, arrays or planted scenes → u8 images with labels, captions and splits."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from embprobe.chunks import fill
from embprobe.errors import UserError
from embprobe.stage import Stage, dashed, option
from embprobe.store import Array, Artefact, Json

if TYPE_CHECKING:
    import numpy as np

    from embprobe.data.catalogue import Catalogue
    from embprobe.data.decode import Decoded
    from embprobe.data.duplicates import Marks
    from embprobe.data.listing import Item, Source
    from embprobe.data.reading import ImageReader

PLANTED = "planted"
CHUNK_BYTES = 4 << 20
SIZES = 1 << 16  # rows of original sizes in a file, about
BATCH = 64  # images decoded at a time
DEEP = 3  # bytes of a pixel's depth and segmentation
FILES_ONLY = ("label_regex", "class_names", "skip_bad", "limit")


@dataclass(frozen=True, kw_only=True)
class Ingest(Stage):
    """Store images as centre-cropped squares, with labels, captions and splits.

    The source is a folder or zip (one folder a class, or flat; train, val and test folders above), webdataset .tar
    shards, a data set of Hugging Face (what `save_to_disk` wrote, or Parquet files), a CSV or JSON-lines manifest
    (columns path, label, caption, split, key; file_name and text do too), or `planted`: scenes drawn from known factors.
    `metadata.csv` or `.jsonl` beside images (file_name, text, label, split) is read. Arrays, u8 (N,H,W) or (N,H,W,C) as
    .npy, or in an .npz as `images` with the same columns or as guided-diffusion's `arr_0` and `arr_1`, stay as they are.

    A `key` names an image inside the set: it stays when files move. Captions are stored as given, a line an image in
    caption.jsonl (null where there is none), from the columns caption or text, or .txt files in shards. Exact and near
    copies, within and across splits, are listed in duplicates.jsonl.
    """

    version = 3

    source: str = option(
        "a folder, .zip, .tar, a{000..003}.tar, .csv, .jsonl, .parquet, .arrow, .npy, .npz, or `planted`", path=True
    )
    size: int = option("side of the stored squares in pixels; arrays keep theirs", 64, least=8, most=8192)
    label_regex: str | None = option("class = first group of this in a file's name inside the set", None)
    class_names: str | None = option(
        "what classes are called: `imagenet` (n01440764 is tench), or a file of lines `class name`, CSV or JSON; their order "
        "stays that of their own names",
        None,
        path="file",
        later=True,
    )
    val_share: float = option(
        "share of training images held out where the source has no validation split", 0.1, least=0, below=1
    )
    seed: int = option("seed of the split, of --limit, and of planted scenes", 0, least=0)
    limit: int | None = option("take only so many images, each class and split in its share", None, least=1)
    skip_bad: bool = option("list and skip images that can't be decoded, instead of stopping", False)
    count: int = option("how many scenes (planted only)", 2000, least=1, most=1_000_000)
    vary: tuple[str, ...] = option("factors that vary from scene to scene; else all (planted only)", (), later=True)
    objects: tuple[int, ...] = option(
        "least and most creatures a scene, such as 1,4; more than one come with depth and segmentation (planted only)",
        (),
        later=True,
        least=1,
        most=12,
    )
    captions: bool = option("tell each scene in a caption that names its factors (planted only)", False, later=True)
    unseen: tuple[str, ...] = option(
        "hue and creature of scenes that are all held out, such as `green beetle,blue fish` (planted only)",
        (),
        later=True,
    )
    device: str = option("taken as by every stage; decoding runs on the CPU", "auto", runtime=True)
    threads: int | None = option("decoding threads; one a core if not given", None, runtime=True, least=1, most=1024)

    def resolved(self) -> dict[str, object]:
        least_most = self.objects * 2 if len(self.objects) == 1 else self.objects
        return {"objects": () if least_most == (1, 1) else least_most}

    def validate(self) -> None:
        from embprobe.data.names import label_pattern

        if self.label_regex is not None:
            label_pattern(self.label_regex)
        given = [name for name in FILES_ONLY if self.planted and getattr(self, name)]
        if given:
            raise UserError(f"{dashed(given[0])} does not apply to planted scenes (--count does); leave it out")
        if self.planted:
            from embprobe.data import captions, crowds

            crowds.check_scenes(self.vary, self.objects)
            captions.pairs_of(self.unseen)

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

    @cached_property
    def rows(self) -> "Catalogue":
        """The images of a source with their labels and splits."""
        from embprobe.data.catalogue import catalogue

        given = {"label_regex": self.label_regex, "val_share": self.val_share, "seed": self.seed, "limit": self.limit}
        return catalogue(self.listing, **given)  # type: ignore[arg-type]

    @cached_property
    def names(self) -> dict[str, str]:
        """What --class-names calls classes; empty where it is not given."""
        from embprobe.data.classnames import class_name_map

        return class_name_map(self.class_names) if self.class_names else {}

    @cached_property
    def taken(self) -> str | None:
        """The split that is taken for train where the source gives splits and no training images."""
        from embprobe.data.catalogue import given_splits
        from embprobe.data.split import lacks_train

        return lacks_train(given_splits(self.listing)[0] or ("train",))

    def spec(self) -> dict[str, Json]:
        """The source counts by its content; options that do not touch it are left out."""
        from embprobe.store.hashes import fingerprint

        spec = super().spec()
        for name in FILES_ONLY if self.planted else ("count", "vary", "objects", "captions", "unseen"):
            spec.pop(name, None)
        if self.planted:
            return spec | {"source": PLANTED}
        if self.listing.shape is not None:
            del spec["size"]
        if self.class_names:
            spec["class_names"] = fingerprint(self.names)
        return spec | {"source": self.content} | ({"train": self.taken} if self.taken else {})

    def options(self) -> dict[str, Json]:
        """The options as given, with the source's absolute path."""
        source = self.source if self.planted else str(Path(self.source).expanduser().absolute())
        return super().options() | {"source": source}

    def check(self) -> None:
        """What labels, splits and names ask of the source, before anything is made."""
        if not self.planted:
            self.called()

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
        return int(self.work()) * height * width * (channels + (DEEP if self.objects else 0))

    def called(self) -> "Sequence[str]":
        """What the classes are called, in the order of their ids."""
        from embprobe.data.classnames import named_classes

        return named_classes(self.rows.classes, self.names, self.class_names) if self.class_names else self.rows.classes

    def run(self, out: Artefact) -> None:
        if self.planted:
            draw(self, out)
        else:
            store_files(self, out)


def draw(stage: Ingest, out: Artefact) -> None:
    """Writes planted scenes, their factors, and of several creatures how many, how far and where they are."""
    from embprobe.data import captions
    from embprobe.data.catalogue import Catalogue
    from embprobe.data.crowds import OBJECT, planted_plan
    from embprobe.data.duplicates import Marks, list_duplicates
    from embprobe.data.planted import FACTORS, factors_json, varying
    from embprobe.data.split import seeded_split, split_codes
    from embprobe.data.summary import set_facts, tell
    from embprobe.data.writing import write_column, write_rows

    plan, classes = planted_plan(stage.seed, stage.count, stage.vary, stage.objects), FACTORS[0].values
    ids = [int(kind) for kind in plan.factors[:, 0]]
    keys = [f"{index:07d}" for index in range(stage.count)]
    splits, rule = seeded_split(keys, [classes[kind] for kind in ids], None, stage.val_share, stage.seed)
    splits = captions.without_pairs(splits, plan.factors, stage.unseen)
    rule += f", {', '.join(stage.unseen)} held out" if stage.unseen else ""
    write_rows(out, keys, split_codes(splits), ids, classes)
    if stage.captions:
        out.write_lines("caption.jsonl", captions.scene_captions(stage.seed, plan.factors, stage.vary))
        out.write_json("words.json", captions.scene_words(stage.vary))
    columns = varying(stage.vary)
    out.write_json("factors.json", [factors_json()[column] for column in columns])
    write_column(out, "factors", plan.factors[:, columns], "float32")
    for name, (values, dtype) in plan.columns.items():
        write_column(out, name, values, dtype)
    if stage.objects:
        out.write_json("objects.json", list(OBJECT))
    images, marks = create_images(out, stage.count, stage.shape()), Marks(stage.count)

    def images_of(rows: range, _: None) -> "list[np.ndarray]":
        drawn = plan.draw(rows.start, rows.stop, stage.size)
        marks.take(rows.start, drawn[0])
        return drawn

    maps = [out.create(n, images.shape[:3], dtype, chunk_rows=images.chunk_rows) for n, dtype in plan.maps.items()]
    fill([images, *maps], lambda rows: None, images_of, batch=BATCH, label="drawing")
    list_duplicates(out, images, marks, keys, splits)
    rows = Catalogue([], splits, rule, [classes[kind] for kind in ids], classes, "the scenes")
    facts = {"size": stage.size, **set_facts(rows, classes, []), "captions": stage.count * stage.captions}
    tell(out, PLANTED, facts, bad=[], source={"kind": PLANTED, "files": 0})


def store_files(stage: Ingest, out: Artefact) -> None:
    """Decodes a source's images, chunk by chunk."""
    from embprobe.data.decode import RECIPE
    from embprobe.data.duplicates import Marks, list_duplicates
    from embprobe.data.reading import image_reader, upscaled
    from embprobe.data.split import split_codes
    from embprobe.data.summary import set_facts, tell
    from embprobe.data.writing import write_rows

    source, rows, names = stage.listing, stage.rows, stage.called()
    reading = image_reader(stage.source, stage.size, source.shape, skip_bad=stage.skip_bad, threads=stage.threads)
    with reading as reader:
        rows, bad = reader.without_bad(rows, out)
        keys = [item.key for item in rows.items]
        write_rows(out, keys, split_codes(rows.splits), rows.class_ids(), names)
        captions = rows.captions()
        if captions is not None:
            out.write_lines("caption.jsonl", captions)
        marks = Marks(len(keys))
        images, sizes = write_images(stage, reader, rows.items, out, marks)
    list_duplicates(out, images, marks, keys, rows.splits)
    height, width, _ = stage.shape()
    facts: dict[str, Json] = {"size": height if height == width else [height, width], **set_facts(rows, names, bad)}
    if stage.class_names:
        facts["unnamed"] = sum(name not in stage.names for name in rows.classes)
    of_files = source.shape is None
    facts["upscaled"] = upscaled(sizes, stage.size) if of_files else 0
    told = {"kind": source.kind, "files": len(source.items)}
    tell(out, source.name, facts, bad=bad, preprocessing=RECIPE if of_files else "none", source=told)


def create_images(out: Artefact, count: int, shape: tuple[int, int, int]) -> Array:
    """The array `images` u8 (count,H,W,C), in chunks of about 4 MiB."""
    chunk_rows = max(1, CHUNK_BYTES // (shape[0] * shape[1] * shape[2]))
    return out.create("images", (count, *shape), "uint8", chunk_rows=chunk_rows, kind="images")


def write_images(
    stage: Ingest, reader: "ImageReader", items: "Sequence[Item]", out: Artefact, marks: "Marks"
) -> tuple[Array, Array]:
    """Decodes and writes the chunks that are missing; returns images and `original_size` i32 (N,2), height and width."""
    import numpy as np

    images = create_images(out, len(items), stage.shape())
    together = images.chunk_rows * max(1, SIZES // images.chunk_rows)
    sizes = out.create("original_size", (len(items), 2), "int32", chunk_rows=together)

    def read(rows: range) -> "list[Decoded]":
        return reader.whole(items[rows.start : rows.stop])

    def arrays_of(rows: range, images: "list[Decoded]") -> "list[np.ndarray]":
        pixels = np.stack([i.pixels for i in images])
        marks.take(rows.start, pixels)
        return [pixels, np.array([(i.height, i.width) for i in images])]

    fill([images, sizes], read, arrays_of, batch=BATCH, label="decoding")
    return images, sizes
