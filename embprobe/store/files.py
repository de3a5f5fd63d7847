"""Files that are whole or absent, and their checksums."""

import contextlib
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path

from embprobe import signals
from embprobe.errors import DamagedError
from embprobe.store import disk, trust
from embprobe.store.lock import Lock

CHECKSUMS = "checksums.xxh128"  # one line a file, as xxh128sum prints and checks them
BESIDE = ".tmp"  # where files are until they are whole; what a kill leaves is all in here
MOST = 1 << 28  # bytes of a file that is read at once
HOLES = 1000  # bytes for each that is on the disk, in a file that would take for ever to read
SETTLE_SECONDS = 2.0  # the most that a power cut takes back

_numbers = count()


class Folder:
    """The files of one artefact by name, each with its checksum: all that arrays and manifests need of a disk.

    A line is added to the checksums once its file is whole. Names are relative, with slashes, and never leave the
    folder; links are not followed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock: Lock | None = None  # while held, every write checks that it still is
        self.sealed = False  # finished: what has a checksum must be there
        try:
            data = disk.read(path / CHECKSUMS, MOST)
        except (FileNotFoundError, NotADirectoryError):
            data = b""
        self.digest = digest(data)
        self.sums, self.refused = trust.ledger(data)
        self._mine: set[str] = set()  # written by this process
        self._plain: set[str] = set()  # folders below, seen to be no links
        self._loose: set[Path] = set()  # folders with names, and files with lines, that a power cut would take back
        self._appended = False
        self._settled = time.monotonic()
        self._adding, self._settling = threading.Lock(), threading.Lock()

    def seal(self, value: str) -> None:
        """Takes the checksums for those of a finished artefact. Raises DamagedError if they are others."""
        if self.digest != value or self.refused:
            raise self._damaged(CHECKSUMS)
        self.sealed = True

    # -- reading

    def has(self, name: str) -> bool:
        """Whether the file was written to its end. Raises DamagedError for one that a finished artefact lost."""
        if name not in self.sums:
            return False
        if self._below(name).exists():
            return True
        if self.sealed:
            raise self._missing(name)
        return False

    def names(self, below: str) -> list[str]:
        """Names of the whole files below a folder, sorted."""
        return sorted(n for n in self.sums if n.startswith(f"{below}/") and self.has(n))

    def read(self, name: str, most: int = MOST) -> bytes:
        """The bytes of a file, checked. Raises DamagedError."""
        try:
            data = disk.read(self._below(name), most)
        except (FileNotFoundError, NotADirectoryError):
            raise self._missing(name) from None
        if self.sums.get(name) != digest(data):
            raise self._damaged(name)
        return data

    def local(self, name: str) -> Path:
        """The path of a file whose bytes were just checked. Raises DamagedError."""
        path = self._below(name)
        if not path.exists():
            raise self._missing(name)
        if not self.same(name):
            raise self._damaged(name)
        return path

    def same(self, name: str) -> bool:
        """Whether a file is there with the bytes that were written."""
        try:
            return file_digest(self._below(name)) == self.sums.get(name)
        except (FileNotFoundError, NotADirectoryError, DamagedError):
            return False

    def size(self) -> int:
        """Bytes of all whole files."""
        return sum((self.path / name).stat().st_size for name in self.sums)

    def _missing(self, name: str) -> DamagedError:
        return DamagedError(f"{self.path / name} is missing; `embprobe verify --repair {self.path}` makes it again")

    def _damaged(self, name: str) -> DamagedError:
        return DamagedError(f"{self.path / name} is damaged; `embprobe verify --repair {self.path}` makes it again")

    def _below(self, name: str) -> Path:
        """The path of a name, by way of plain folders. Raises DamagedError where it would leave this one."""
        return self._entered(name, make=False)

    def room(self, name: str) -> Path:
        """The path of a name in folders that are there, made if need be. Raises DamagedError as above."""
        return self._entered(name, make=True)

    def _entered(self, name: str, *, make: bool) -> Path:
        if not trust.is_plain(name):
            raise DamagedError(f"{self.path}: {name!r} is no name of a file inside it")
        parent = name.rpartition("/")[0]
        if parent and parent not in self._plain:
            self._enter(parent, make)
        return self.path / name

    def _enter(self, parent: str, make: bool) -> None:
        path = self.path
        for part in parent.split("/"):
            path = path / part
            try:
                mode = path.lstat().st_mode
            except FileNotFoundError:
                if not make:
                    return
                disk.make_folder(path)
                with self._adding:
                    self._loose.add(path.parent)
                continue
            if not stat.S_ISDIR(mode):
                raise DamagedError(f"{path} is a link or a file, and should be a folder; remove it")
        self._plain.add(parent)

    # -- writing

    def write(self, name: str, data: "bytes | memoryview", *, settle: bool = True) -> None:
        """Writes one file whole and takes down its checksum. Raises MachineError if the lock was lost.

        With `settle`, a power cut can't take it back; else it could for SETTLE_SECONDS.
        """
        self._place(name, data)
        self._mine.add(name)
        self.add(name, digest(data))
        if settle or time.monotonic() - self._settled > SETTLE_SECONDS:
            self.settle()

    def add(self, name: str, value: str) -> None:
        """Takes down the checksum of a file that is whole."""
        with self._adding:
            self.sums[name] = value
            self._appended = True
            if not (self.path / CHECKSUMS).exists():
                self._loose.add(self.path)
            disk.append(self.path / CHECKSUMS, f"{value}  {name}".encode())

    def place(self, name: str, data: bytes) -> None:
        """Writes a file that has no line in the checksums; a power cut can't take it back."""
        self._place(name, data)
        self.settle()

    def _place(self, name: str, data: "bytes | memoryview") -> None:
        if self.lock is not None:
            self.lock.check()
        beside = self.room(f"{BESIDE}/{os.getpid()}.{next(_numbers)}")
        self._put(beside, self.room(name), lambda: disk.create(beside, data))

    def take(self, source: Path, name: str) -> None:
        """A file from elsewhere on the same disk under this name, over what is there; without its checksum."""
        beside = self.room(f"{BESIDE}/{os.getpid()}.{next(_numbers)}")
        self._put(beside, self.room(name), lambda: disk.link(source, beside))

    def _put(self, beside: Path, path: Path, make: Callable[[], None]) -> None:
        """Makes a file beside and moves it to its place."""
        try:
            make()
            disk.rename(beside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                disk.unlink(beside)
            raise
        with self._adding:
            self._loose.add(path.parent)

    def settle(self) -> None:
        """Flushes what a power cut would take back: names in folders, then the checksums."""
        with self._settling:
            with self._adding:
                folders, self._loose = self._loose, set()
                appended, self._appended = self._appended, False
            for path in sorted(folders, reverse=True):
                with contextlib.suppress(FileNotFoundError):  # a journal that was needed no more
                    disk.sync(path)
            if appended:
                disk.sync(self.path / CHECKSUMS)
            self._settled = time.monotonic()

    def remove(self, *names: str) -> None:
        """Removes files; forgotten first, so that none is missed if this is cut short."""
        if names:
            self.forget(*names)
        for name in names:
            disk.unlink(self._below(name))

    def forget(self, *names: str) -> None:
        """Takes back the checksums of files, which count as never written from here on."""
        with self._adding:
            for name in names:
                self.sums.pop(name, None)
        self.save()

    def clear(self, below: str) -> None:
        """Removes a folder below and what a kill left there."""
        gone = [name for name in self.sums if name.startswith(f"{below}/")]
        if gone:
            self.forget(*gone)
        if self._below(f"{below}/x").parent.exists():
            disk.remove_tree(self.path / below)
        self._plain = {folder for folder in self._plain if folder.partition("/")[0] != below}

    def recheck(self) -> list[str]:
        """Forgets what earlier processes wrote and the disk has lost since; its names."""
        lost = [name for name in sorted(self.sums.keys() - self._mine) if not self.same(name)]
        if lost:
            self.forget(*lost)
        self._mine |= self.sums.keys()
        return lost

    def save(self) -> str:
        """Rewrites the checksums in order; returns their own digest."""
        self.settle()
        text = as_lines(self.sums)
        self.place(CHECKSUMS, text)
        return digest(text)

    def append(self, name: str, line: bytes) -> None:
        """Adds a line to a file without checksum; it is flushed when the folder settles."""
        path = self.room(name)
        loose = {path} if path.exists() else {path, path.parent}
        disk.append(path, line)
        with self._adding:
            self._loose |= loose

    def drop(self, name: str) -> None:
        """Removes a file without checksum, if it is there."""
        disk.unlink(self._below(name))

    def replace(self, name: str, lines: Iterable[bytes]) -> None:
        """Rewrites a file without checksum."""
        self.place(name, b"".join(line + b"\n" for line in lines))

    def sweep(self) -> None:
        """Removes what a kill left half-written; only for one who holds the lock."""
        disk.remove_tree(self.path / BESIDE)
        self._plain.discard(BESIDE)


def digest(data: "bytes | memoryview") -> str:
    """xxh3-128 in hex."""
    import xxhash

    return xxhash.xxh3_128_hexdigest(data)


def file_digest(path: Path) -> str:
    """xxh3-128 of a plain file's bytes, read in blocks. Raises DamagedError where it is no plain file, or all holes."""
    import xxhash

    state = xxhash.xxh3_128()
    with os.fdopen(disk.open_plain(path), "rb") as file:
        held = os.fstat(file.fileno())
        if held.st_size > MOST and held.st_blocks * 512 * HOLES < held.st_size:
            raise DamagedError(f"{path} has {held.st_size:,} bytes, nearly all of them holes; embprobe writes none")
        while block := file.read(1 << 22):
            state.update(block)
            signals.check()
    return state.hexdigest()


def as_lines(sums: dict[str, str]) -> bytes:
    """Checksums by name as xxh128sum prints them."""
    return "".join(f"{value}  {name}\n" for name, value in sorted(sums.items())).encode()
