"""A listing: what a set of images holds, whatever it is kept in."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from embprobe.data.names import first_repeated
from embprobe.errors import UserError


@dataclass(frozen=True, slots=True)
class Item:
    """One image: its name inside the set, how to open its bytes, and what stands about it beside its name."""

    key: str
    open: Callable[[], IO[bytes]]
    size: int
    label: str | None = None
    caption: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Source:
    """A listing, sorted by key."""

    kind: Literal["folder", "zip", "tar", "manifest", "arrays"]
    name: str
    items: Sequence[Item]
    files: Sequence[Path] = field(repr=False)  # what the listing was read from, for remembering hashes
    described: bool = False  # labels stand beside the images, and folders tell nothing
    shape: tuple[int, int, int] | None = None  # (H,W,C) of arrays, which are stored as they are; None for image files


def walk(folder: Path) -> Iterator[Path]:
    """All visible files below a folder in sorted order; links are followed, each folder entered once."""
    entered = set()
    for base, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(base)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and real not in entered)
        if real not in entered:
            yield from (Path(base, name) for name in sorted(files) if not name.startswith("."))
        entered.add(real)


def opened(path: Path) -> IO[bytes]:
    """A plain file, open for reading."""
    return path.open("rb")


def by_key(items: list[Item]) -> list[Item]:
    """Sorted by key; raises UserError where a key occurs twice."""
    repeated = first_repeated(item.key for item in items)
    if repeated is not None:
        raise UserError(f'two images are named "{repeated}"; rename one of them, or give a `key` column in a manifest')
    return sorted(items, key=lambda item: item.key)
