"""Where else artefacts lie: a chain may go over several stores, which may be moved or read-only."""

import contextlib
import os
from pathlib import Path

from embprobe.errors import DamagedError
from embprobe.store import disk

FILE = "stores.txt"  # in a store: the others that its artefacts were made from, or that were made from its own
MOST = 1 << 20  # bytes


def others(root: Path) -> list[Path]:
    """The other stores that a store knows, nearest first, as far as they are there."""
    try:
        text = disk.read(root / FILE, MOST).decode(errors="replace")
    except (OSError, DamagedError):
        return []
    found = [Path(os.path.normpath(root / line)) for line in text.split("\n") if line.strip() and "\0" not in line]
    return [path for path in dict.fromkeys(found) if path != root and _is_folder(path)]


def home(root: Path, stage: str, fingerprint: str) -> Path:
    """The store that holds an artefact: `root`, else one that `root` knows, else `root`."""
    inside = Path(stage, fingerprint)
    if (root / inside).is_dir():
        return root
    return next((other for other in others(root) if _is_folder(other / inside)), root)


def acquaint(root: Path, other: Path) -> None:
    """Each of two stores knows the other from here on, both by where it lies and by the way to it."""
    for one, two in ((root, other), (other, root)):
        if two in others(one):
            continue
        with contextlib.suppress(OSError):  # a store that can't be written still serves
            for line in (str(two), os.path.relpath(two, one)):
                disk.append(one / FILE, line.encode(errors="surrogateescape"))
            disk.sync(one / FILE)
            disk.sync(one)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long, a folder that others may not see
        return False
