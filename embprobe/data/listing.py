"""A listing: what a set of images holds, whatever it is kept in."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from embprobe.data.names import first_repeated
from embprobe.errors import UserError


@dataclass(frozen=True, slots=True)
class Item:
    """One image: its name inside the set, how to open its bytes, how many at most, and what is told beside its name."""

    key: str
    open: Callable[[], IO[bytes]]
    size: int
    label: str | None = None
    caption: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Source:
    """A listing, sorted by key; a table in the order of its rows."""

    kind: Literal["folder", "zip", "tar", "manifest", "arrays", "table"]
    name: str
    items: Sequence[Item]
    files: Sequence[Path] = field(repr=False)  # what the listing was read from, for remembering hashes
    described: bool = False  # labels, captions or splits stand beside the images
    shape: tuple[int, int, int] | None = None  # (H,W,C) of arrays, which are stored as they are; None for image files


def walk(folder: Path) -> Iterator[Path]:
    """All visible files below a folder in sorted order; links are followed, each folder entered once.

    Raises UserError for a folder that can't be read and a link that leads nowhere: it may have held a whole class.
    """
    entered, todo = set(), [str(folder)]
    while todo:
        base = todo.pop()
        try:
            facts = Path(base).stat()
            with os.scandir(base) as found:
                entries = sorted((entry for entry in found if not entry.name.startswith(".")), key=lambda e: e.name)
        except OSError as error:
            raise UserError(
                f"cannot read the folder {base} ({error.strerror}); make it readable, or move it elsewhere"
            ) from None
        if (facts.st_dev, facts.st_ino) in entered:
            continue
        entered.add((facts.st_dev, facts.st_ino))
        folders = {entry.name for entry in entries if is_folder(entry)}
        yield from (Path(entry.path) for entry in entries if entry.name not in folders)
        todo += [entry.path for entry in reversed(entries) if entry.name in folders]


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Whether it is a folder or a link to one. Raises UserError for a link that leads nowhere."""
    try:
        return stat.S_ISDIR(entry.stat().st_mode) if entry.is_symlink() else entry.is_dir()
    except OSError as error:
        raise UserError(
            f"cannot read {entry.path} ({error.strerror}); a link must lead to something, so mend or remove it"
        ) from None


def checked_file(path: Path) -> Path:
    """The path of a plain file, or of a link to one; nothing else is ever opened, since a FIFO or a device never ends.

    Raises UserError for anything else.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise UserError(f"there is no file {path}; check the path") from None
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}); check the path") from None
    if not stat.S_ISREG(mode):
        kinds = ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "FIFO"), (stat.S_ISSOCK, "socket"))
        kind = next((kind for test, kind in kinds if test(mode)), "device")
        raise UserError(f"{path} is a {kind}, not a file that can be read to its end; remove it, or give another path")
    return path


def opened(path: Path) -> IO[bytes]:
    """A plain file, open for reading."""
    return path.open("rb")


def by_key(items: list[Item]) -> list[Item]:
    """Sorted by key; raises UserError where a key occurs twice."""
    repeated = first_repeated(item.key for item in items)
    if repeated is not None:
        raise UserError(f'two images are named "{repeated}"; rename one of them, or give a `key` column in a manifest')
    return sorted(items, key=lambda item: item.key)
