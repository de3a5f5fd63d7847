"""Tar files: plain ones, and webdataset shards where .cls, .txt and .json stand beside each image."""

import io
import json
import re
import struct
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from embprobe.data.listing import Item, Source, by_key, checked_file
from embprobe.data.names import SPLIT_NAMES, checked_member, is_image, normalised
from embprobe.errors import UserError

SIDECARS = (".cls", ".txt", ".json")
MOST_SIDECAR = 1 << 20  # bytes of a label or a caption
MOST_HEADER = 1 << 16  # bytes; a path, its link and their attributes take far less
DIGITS = re.compile(rb"\d{300}")  # tarfile's own patterns take quadratic time over them
# What tarfile is known to raise on damaged input; RecursionError for a long row of headers.
DAMAGE = (tarfile.TarError, OSError, ValueError, IndexError, KeyError, OverflowError, RecursionError, struct.error)


class Member(NamedTuple):
    """A regular file in a tar: its name in the set, and where its bytes lie."""

    name: str
    tar: Path
    offset: int
    size: int

    def open(self) -> IO[bytes]:
        with self.tar.open("rb") as file:
            file.seek(self.offset)
            return io.BytesIO(file.read(self.size))


class Headers(io.FileIO):
    """A tar whose headers may only be as long as headers are: tarfile reads as much as one claims to be."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= MOST_HEADER:
            raise tarfile.ReadError(f"a header of {size} bytes")
        data = super().read(size)
        if size > tarfile.BLOCKSIZE and DIGITS.search(data):
            raise tarfile.ReadError("a header of digits")
        return data


def list_shards(shards: Sequence[Path], root: Path) -> Source:
    """Every image in tar files; folders above a tar, and a stem like `train-000`, tell the split.

    A tar with .cls, .txt or .json beside images is read as webdataset: `a.jpg` with `a.cls` (label), `a.txt` (caption),
    `a.json` (keys `label` or `cls` or `class`, `caption` or `text`).
    """
    members = [member for shard in shards for member in read_members(shard, root)]
    images = [member for member in members if is_image(member.name)]
    if len({member.name for member in images}) < len(images):  # each shard counts its own images from 0
        members = [member._replace(name=numbered(member)) for member in members]
        images = [member for member in members if is_image(member.name)]
    name = shards[0].stem if len(shards) == 1 else root.resolve().name
    stems = {stem_of(member.name) for member in images}
    beside = [m for m in members if PurePosixPath(m.name).suffix.lower() in SIDECARS and stem_of(m.name) in stems]
    keys = normalised([member.name for member in images], name)
    items = [Item(key, member.open, member.size) for key, member in zip(keys, images, strict=True)]
    if beside:
        described = read_sidecars(beside)
        rows = [described.get(stem_of(member.name), {}) for member in images]
        items = [
            replace(item, label=row.get("label"), caption=row.get("caption"))
            for item, row in zip(items, rows, strict=True)
        ]
    return Source("tar", name, by_key(items), list(shards), described=bool(beside))


def read_members(shard: Path, root: Path) -> list[Member]:
    """The regular files of one tar, named below the tar's folder.

    Raises UserError for a compressed or damaged tar, and where an image is a link, a device or sparse.
    """
    folder = shard.parent.absolute().relative_to(root.absolute()).as_posix()
    split = next((name for name in SPLIT_NAMES if shard.stem.lower().replace("_", "-").split("-")[0] == name), "")
    prefix = "".join(f"{part}/" for part in (folder, split) if part not in ("", "."))
    members = []
    try:
        with Headers(checked_file(shard)) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for info in archive:
                name = checked_member(info.name, str(shard))
                if info.size < 0 or archive.offset <= info.offset:  # tarfile would go back, for ever
                    raise ValueError(f"{name} has {info.size} bytes")
                if info.isreg() and not info.issparse():
                    members.append(Member(prefix + name, shard, info.offset_data, info.size))
                elif is_image(name) and not info.isdir():
                    raise UserError(f'"{name}" in {shard} is a link, a device or sparse; unpack it and give the folder')
            file.seek(archive.offset)  # tarfile takes a damaged header for the end
            if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
                raise ValueError(f"damaged at byte {archive.offset:,}")
    except DAMAGE as error:
        raise UserError(f"cannot read {shard} ({error}); give an uncompressed, whole tar") from None
    return members


def numbered(member: Member) -> str:
    """The member's name with its shard's stem in front, below a split folder."""
    top, _, rest = member.name.partition("/")
    if rest and top in SPLIT_NAMES:
        return f"{top}/{member.tar.stem}/{rest}"
    return f"{member.tar.stem}/{member.name}"


def stem_of(name: str) -> str:
    """What webdataset pairs by: the path up to the first dot of the file's name."""
    path = PurePosixPath(name)
    return str(path.with_name(path.name.partition(".")[0] or path.name))


def read_sidecars(members: list[Member]) -> dict[str, dict[str, str]]:
    """`label` and `caption` by sample."""
    described: dict[str, dict[str, str]] = {}
    for member in members:
        suffix = PurePosixPath(member.name).suffix.lower()
        if member.size > MOST_SIDECAR:
            raise UserError(f"{member.name} in {member.tar} has {member.size:,} bytes, too many for words; take it out")
        try:
            text = member.open().read().decode("utf-8-sig").strip()
            facts = {".cls": {"label": text}, ".txt": {"caption": text}}.get(suffix) or fields(json.loads(text))
            "".join(facts.values()).encode()  # JSON can spell what is no character
        except (ValueError, RecursionError) as error:
            raise UserError(f"cannot read {member.name} in {member.tar} ({error}); write it again") from None
        described.setdefault(stem_of(member.name), {}).update(facts)
    return described


def fields(row: object) -> dict[str, str]:
    """`label` and `caption` of a JSON sidecar, under webdataset's usual names."""
    if not isinstance(row, dict):
        return {}
    facts = {}
    for target, names in (("label", ("label", "cls", "class")), ("caption", ("caption", "text"))):
        value = next((row[name] for name in names if row.get(name) is not None), None)
        if value is not None:
            facts[target] = str(value)
    return facts
