"""Sets of images as a user has them (folder, zip, tar shards, manifest) → one sorted listing and its content hash."""

import hashlib
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
from embprobe.data.manifest import list_manifest
from embprobe.data.names import checked_member, expand_braces, is_image, normalised
from embprobe.data.shards import list_shards
from embprobe.errors import UserError
from embprobe.store.hashes import BLOCK, identity

RULES = "sources-2"  # raise when the same files would be named or hashed otherwise
FRESH_NS = 2_000_000_000  # a file touched this recently may change again without a new time
SLOW_BYTES = 1 << 28  # more than this is worth a progress bar
UNREADABLE = (OSError, EOFError, ValueError, struct.error, zipfile.BadZipFile, zlib.error, NotImplementedError)
MOST_RATIO = 1100  # deflate reaches 1032; more is a bomb, or members that share their bytes


class Cache(Protocol):
    """Remembered hashes by file identity."""

    def get(self, key: str) -> str | None: ...
    def set(self, key: str, value: str) -> None: ...


def open_source(source: str) -> Source:
    """Lists a folder, a zip, tar shards (`a{000..003}.tar`), a CSV or JSON-lines manifest, or arrays (.npy, .npz).

    Raises UserError where there is nothing, no image, or a member that points outside its archive.
    """
    try:
        path = Path(source).expanduser()
    except RuntimeError:
        raise UserError(f"there is no such user as in {source}; a path that starts with ~ is ./{source}") from None
    if path.exists() and not path.is_dir():
        checked_file(path)
    if not path.exists() and "{" in source:
        shards = [Path(shard).expanduser() for shard in expand_braces(source)]
        listing = list_shards(shards, Path(os.path.commonpath([shard.parent.absolute() for shard in shards])))
    elif not path.exists():
        raise UserError(f"there is nothing at {source}; check the path")
    elif path.is_dir():
        listing = list_folder(path)
        shards = [file for file in walk(path) if file.suffix.lower() == ".tar"] if not listing.items else []
        listing = list_shards(shards, path) if shards else listing
    elif path.suffix.lower() == ".zip":
        listing = list_zip(path)
    elif path.suffix.lower() == ".tar":
        listing = list_shards([path], path.parent)
    elif path.suffix.lower() in (".csv", ".jsonl"):
        listing = list_manifest(path)
    elif path.suffix.lower() in (".npy", ".npz"):
        listing = list_arrays(path)
    else:
        raise UserError(f"{source} is neither a folder nor .zip, .tar, .csv, .jsonl, .npy or .npz; give one of these")
    if not listing.items:
        raise UserError(f"{source} holds no image; put .jpg, .png or .webp files there, or check the path")
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
    if sum(item.size for item in listing.items) < SLOW_BYTES:
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
    """Every image below a folder."""
    files = [checked_file(file) for file in walk(folder) if is_image(file.relative_to(folder).as_posix())]
    names = [file.relative_to(folder).as_posix() for file in files]
    items = [
        Item(key, partial(opened, file), file.stat().st_size)
        for key, file in zip(normalised(names, folder.resolve().name), files, strict=True)
    ]
    return Source("folder", folder.resolve().name, by_key(items), files)


def list_zip(path: Path) -> Source:
    """Every image in a zip. Raises UserError for one that is no whole zip, encrypted, or unpacks to absurd sizes."""
    try:
        archive = zipfile.ZipFile(path)
    except UNREADABLE as error:
        raise UserError(f"cannot read {path} ({error}); make the zip again") from None
    total, packed = sum(info.file_size for info in archive.infolist()), path.stat().st_size
    if total > MOST_RATIO * packed + BLOCK:
        raise UserError(
            f"{path} would unpack from {packed:,} to {total:,} bytes, which no images do; make the zip again"
        )
    members = []
    for info in archive.infolist():
        name = checked_member(info.filename, str(path))
        if not info.is_dir() and is_image(name):
            if info.flag_bits & 1:
                raise UserError(f"{path} is encrypted; give it without a password")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others unpack without a bound
                raise UserError(
                    f'{path} packs "{name}" with neither deflate nor nothing; make the zip again with `zip`'
                )
            members.append((name, info))
    names = normalised([name for name, _ in members], path.stem)
    items = [
        Item(key, partial(archive.open, info), info.file_size) for key, (_, info) in zip(names, members, strict=True)
    ]
    return Source("zip", path.stem, by_key(items), [path])
