"""Sets of images as a user has them (folder, zip, shards, tables) → one listing and its content hash."""

import hashlib
import io
import json
import os
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from embprobe import console
from embprobe.data.arrays import list_arrays, pixels_of
from embprobe.data.decode import MAX_BYTES, BadImage, Decoded, decode
from embprobe.data.listing import Item, Source, by_key, checked_file, opened, walk
from embprobe.data.manifest import described_beside, is_sheet, list_manifest
from embprobe.data.names import checked_member, expand_braces, is_image, normalised
from embprobe.data.shards import list_shards
from embprobe.data.tables import list_saved, list_table_files
from embprobe.errors import UserError
from embprobe.store.hashes import BLOCK, identity

RULES = "sources-3"  # raise when the same files would be named or hashed otherwise
FRESH_NS = 2_000_000_000  # a file touched this recently may change again without a new time
SLOW_BYTES = 1 << 28  # more than this is worth a progress bar
UNREADABLE = (OSError, EOFError, ValueError, struct.error, zipfile.BadZipFile, zlib.error, NotImplementedError)
TABLES = (".parquet", ".arrow")
SAVED = ("state.json", "dataset_info.json")  # beside the Arrow files of a data set that `datasets` saved
MOST_RATIO = 1100  # deflate reaches 1032; more is a bomb, or members that share their bytes


class Cache(Protocol):
    """Remembered hashes by file identity."""

    def get(self, key: str) -> str | None: ...
    def set(self, key: str, value: str) -> None: ...


def open_source(source: str) -> Source:
    """Lists a folder, a zip, tar shards (`a{000..003}.tar`), a manifest, arrays, or Parquet and Arrow files.

    Raises UserError where there is nothing, no image, or a member that points outside its archive.
    """
    try:
        path = Path(source).expanduser()
    except RuntimeError:
        raise UserError(f"there is no such user as in {source}; a path that starts with ~ is ./{source}") from None
    if path.exists() and not path.is_dir():
        checked_file(path)
    suffix = path.suffix.lower()
    if not path.exists() and "{" in source:
        shards = [Path(shard).expanduser() for shard in expand_braces(source)]
        listing = list_shards(shards, Path(os.path.commonpath([shard.parent.absolute() for shard in shards])))
    elif not path.exists():
        raise UserError(f"there is nothing at {source}; check the path")
    elif path.is_dir():
        listing = list_whole_folder(path)
    elif suffix == ".tar":
        listing = list_shards([path], path.parent)
    elif suffix in TABLES:
        listing = list_table_files([path], path.parent)
    elif suffix in FILES:
        listing = FILES[suffix](path)
    else:
        raise UserError(
            f"{source} is neither a folder nor {', '.join(('.tar', *FILES, TABLES[0]))} or {TABLES[1]}; give one of these"
        )
    if not listing.items:
        raise UserError(f"{source} holds no image; put .jpg, .png or .webp files there, or check the path")
    return listing


def list_whole_folder(folder: Path) -> Source:
    """The images below a folder; where there are none, those in its tar shards, Parquet or Arrow files."""
    if (folder / "dataset_dict.json").is_file() or all((folder / n).is_file() for n in SAVED):
        return list_saved(folder)
    listing = list_folder(folder)
    if listing.items:
        return listing
    files = list(walk(folder))
    for suffix in (".tar", *TABLES):
        packed = [file for file in files if file.suffix.lower() == suffix]
        if packed:
            return list_shards(packed, folder) if suffix == ".tar" else list_table_files(packed, folder)
    return listing


def content_hash(source: str | Source, cache: Cache | None = None) -> str:
    """blake2b-128, in hex, of the names inside a set, its bytes, and what is told beside them: never of where it lies.

    A folder, its zip and a tar of it hash alike. `cache` may remember the hash of a set whose files were not touched.
    """
    listing = open_source(source) if isinstance(source, str) else source
    key = untouched(listing) if cache is not None else None
    known = cache.get(key) if cache is not None and key is not None else None
    if known is not None:
        return known
    digest = hashlib.blake2b(b"told\n" if listing.described else b"named\n", digest_size=16)
    if listing.shape is not None:
        digest.update(f"{listing.shape}\n".encode())
    with reading(listing) as advance:
        for item in listing.items:
            beside = [item.label, item.caption, item.split] if listing.described else []
            digest.update(json.dumps([item.key, item_digest(item), *beside]).encode() + b"\n")
            advance()
    if cache is not None and key is not None and not fresh(listing.files):
        cache.set(key, digest.hexdigest())
    return digest.hexdigest()


@contextmanager
def reading(listing: Source) -> Iterator[Callable[[], None]]:
    """Shows progress over the items of a set too large to be hashed in a moment."""
    if sum(file.stat().st_size for file in listing.files) < SLOW_BYTES:
        yield lambda: None
        return
    with console.progress("hashing", total=len(listing.items), unit="img") as bar:
        yield bar.advance


def read_image(item: Item, size: int, shape: tuple[int, int, int] | None) -> Decoded | BadImage:
    """The item as an upright square of `size`, or as it is where it is an array of `shape`; or why it can't be had."""
    if item.size > MAX_BYTES:
        return BadImage(f"{item.size:,} bytes are more than {MAX_BYTES:,}")
    try:
        with item.open() as file:
            data = file.read(item.size + 1)  # bounded: a zip's member may hold far more than it says
        return decode(data, size) if shape is None else pixels_of(data, shape)
    except BadImage as bad:
        return bad
    except UNREADABLE as error:
        return BadImage(f"cannot be read: {error}")


def untouched(listing: Source) -> str:
    """One key for the identities of all files of a set."""
    digest = hashlib.blake2b(f"{RULES}\n{listing.name}\n".encode(), digest_size=16)
    for file in listing.files:
        digest.update(identity(file).encode(errors="surrogateescape") + b"\n")
    return f"{RULES}:{listing.kind}:{digest.hexdigest()}"


def fresh(files: Sequence[Path]) -> bool:
    """Whether a file was touched so recently that its times can't tell a later change."""
    return time.time_ns() - max(file.stat().st_mtime_ns for file in files) < FRESH_NS


def item_digest(item: Item) -> str:
    """blake2b-128 of an item's bytes in hex, read in blocks; `unreadable` for what an archive can't give back.

    What is too large to be an image is not read: no image comes of it, whatever it holds.
    """
    if item.size > MAX_BYTES:
        return f"{item.size} bytes"
    digest = hashlib.blake2b(digest_size=16)
    try:
        with item.open() as file:
            while block := file.read(BLOCK):
                digest.update(block)
    except UNREADABLE:
        return "unreadable"
    return digest.hexdigest()


def list_folder(folder: Path) -> Source:
    """Every image below a folder, with what metadata.csv or metadata.jsonl beside them tells."""
    named = {file.relative_to(folder).as_posix(): file for file in walk(folder)}
    files = [checked_file(file) for name, file in named.items() if is_image(name)]
    places = [file.relative_to(folder).as_posix() for file in files]
    items = [
        Item(key, partial(opened, file), file.stat().st_size)
        for key, file in zip(normalised(places, folder.resolve().name), files, strict=True)
    ]
    sheets = {
        name: partial(checked_file(file).open, encoding="utf-8-sig", newline="")
        for name, file in named.items()
        if is_sheet(name) and items
    }
    items, used = described_beside(items, places, sheets, str(folder))
    beside = [named[name] for name in used]
    return Source("folder", folder.resolve().name, by_key(items), [*files, *beside], described=bool(used))


def list_zip(path: Path) -> Source:
    """Every image in a zip, with what metadata.csv or metadata.jsonl beside them tells.

    Raises UserError for one that is no whole zip, encrypted, or unpacks to absurd sizes.
    """
    try:
        archive = zipfile.ZipFile(path)
    except UNREADABLE as error:
        raise UserError(f"cannot read {path} ({error}); make the zip again") from None
    total, packed = sum(info.file_size for info in archive.infolist()), path.stat().st_size
    if total > MOST_RATIO * packed + BLOCK:
        raise UserError(
            f"{path} would unpack from {packed:,} to {total:,} bytes, which no images do; make the zip again"
        )
    named = [(checked_member(info.filename, str(path)), info) for info in archive.infolist()]
    members = [(name, info) for name, info in named if is_image(name) and not info.is_dir()]
    sheets = {name: info for name, info in named if name and is_sheet(name) and not info.is_dir() and members}
    for name, info in (*members, *sheets.items()):
        if info.flag_bits & 1:
            raise UserError(f"{path} is encrypted; give it without a password")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without a bound
            raise UserError(f'{path} packs "{name}" with neither deflate nor nothing; make the zip again with `zip`')
    places = [name for name, _ in members]
    items = [
        Item(key, partial(archive.open, info), info.file_size)
        for key, (_, info) in zip(normalised(places, path.stem), members, strict=True)
    ]
    opens = {name: partial(opened_text, archive, info) for name, info in sheets.items()}
    try:
        items, used = described_beside(items, places, opens, str(path))
    except UNREADABLE as error:
        raise UserError(f"cannot read the metadata in {path} ({error}); make the zip again") from None
    return Source("zip", path.stem, by_key(items), [path], described=bool(used))


def opened_text(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> io.TextIOWrapper:
    """A member of a zip as text."""
    return io.TextIOWrapper(archive.open(info), encoding="utf-8-sig", newline="")


FILES = {".zip": list_zip, ".csv": list_manifest, ".jsonl": list_manifest, ".npy": list_arrays, ".npz": list_arrays}
