"""Files that are whole or absent, and their checksums."""

import json
import os
import re
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from embprobe.errors import DamagedError
from embprobe.store.lock import Lock

Json = Any  # Any: what json.loads returns: None, bool, int, float, str, list or dict of these

CHECKSUMS = "checksums.xxh128"  # one line a file, as xxh128sum prints and checks them


class Folder:
    """The files of one artefact by name, each with its checksum: all that arrays and manifests need of a disk.

    A line is added to the checksums once its file is whole. Names are relative, with slashes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock: Lock | None = None  # while held, every write checks that it still is
        self.sums: dict[str, str] = {}
        self._adding = threading.Lock()
        if (path / CHECKSUMS).exists():
            for line in (path / CHECKSUMS).read_text().split("\n"):
                entry = re.fullmatch(r"([0-9a-f]{32})  (.+)", line)  # a torn last line does not match
                if entry:
                    self.sums[entry[2]] = entry[1]

    # -- reading

    def has(self, name: str) -> bool:
        """Whether the file was written to its end (its bytes are checked when read)."""
        return name in self.sums and (self.path / name).exists()

    def names(self, below: str) -> list[str]:
        """Names of the whole files below a folder, sorted."""
        return sorted(n for n in self.sums if n.startswith(f"{below}/") and self.has(n))

    def read(self, name: str) -> bytes:
        """The bytes of a file, checked. Raises DamagedError."""
        try:
            data = (self.path / name).read_bytes()
        except FileNotFoundError:
            raise self._missing(name) from None
        self._compare(name, digest(data))
        return data

    def local(self, name: str) -> Path:
        """The path of a file whose bytes were just checked. Raises DamagedError."""
        path = self.path / name
        if not path.exists():
            raise self._missing(name)
        self._compare(name, file_digest(path))
        return path

    def damaged(self) -> list[str]:
        """Names of files that are missing or whose bytes changed."""
        paths = ((name, self.path / name, value) for name, value in sorted(self.sums.items()))
        return [name for name, path, value in paths if not path.exists() or file_digest(path) != value]

    def size(self) -> int:
        """Bytes of all whole files."""
        return sum((self.path / name).stat().st_size for name in self.sums)

    def _missing(self, name: str) -> DamagedError:
        return DamagedError(f"{self.path / name} is missing; `embprobe verify --repair {self.path}` makes it again")

    def _compare(self, name: str, value: str) -> None:
        if self.sums.get(name) != value:
            path = self.path / name
            raise DamagedError(f"{path} is damaged; `embprobe verify --repair {self.path}` makes it again")

    # -- writing

    def write(self, name: str, data: "bytes | memoryview") -> None:
        """Writes one file whole and takes down its checksum. Raises MachineError if the lock was lost."""
        if self.lock is not None:
            self.lock.check()
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
        self.add(name, digest(data))

    def add(self, name: str, value: str) -> None:
        """Takes down the checksum of a file that is whole."""
        with self._adding:
            self.sums[name] = value
            with (self.path / CHECKSUMS).open("a") as file:
                file.write(f"{value}  {name}\n")

    def remove(self, *names: str) -> None:
        """Removes files; forgotten first, so that none is missed if this is cut short."""
        if names:
            with self._adding:
                for name in names:
                    self.sums.pop(name, None)
                self.save()
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def save(self) -> str:
        """Rewrites the checksums in order; returns their own digest."""
        text = "".join(f"{value}  {name}\n" for name, value in sorted(self.sums.items())).encode()
        write_whole(self.path / CHECKSUMS, text)
        return digest(text)

    def append(self, name: str, line: bytes) -> None:
        """Adds a line to a file without checksum, after one that a kill cut off too."""
        with (self.path / name).open("ab+") as file:
            end = file.tell()
            file.seek(max(0, end - 1))
            torn = b"" if file.read() in (b"", b"\n") else b"\n"
            file.write(torn + line + b"\n")

    def replace(self, name: str, lines: Iterable[bytes]) -> None:
        """Rewrites a file without checksum."""
        if self.lock is not None:
            self.lock.check()
        write_whole(self.path / name, b"".join(line + b"\n" for line in lines))


def digest(data: "bytes | memoryview") -> str:
    """xxh3-128 in hex."""
    import xxhash

    return xxhash.xxh3_128_hexdigest(data)


def file_digest(path: Path) -> str:
    """xxh3-128 of a file's bytes, read in blocks."""
    import xxhash

    state = xxhash.xxh3_128()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            state.update(block)
    return state.hexdigest()


def write_whole(path: Path, data: "bytes | memoryview") -> None:
    """Writes beside, flushes, renames: `path` is either absent, old, or whole."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        with beside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def as_json(value: Json) -> bytes:
    """Indented JSON that every reader takes: what JSON lacks is null."""
    return (json.dumps(finite(value), indent=1, ensure_ascii=False) + "\n").encode()


def finite(value: Json) -> Json:
    """The value with numbers that JSON lacks (nan, infinities) as null."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return value
