"""Files that are whole or absent, and their checksums."""

import json
import os
import re
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from embprobe.errors import DamagedError

Json = Any  # Any: what json.loads returns: None, bool, int, float, str, list or dict of these

MANIFEST = "manifest.json"
MANIFEST_SUM = "manifest.xxh128"  # the manifest holds the digest of the checksums, this file that of the manifest
BEFORE = "manifest.before.json"
CHECKSUMS = "checksums.xxh128"  # one line a file, as xxh128sum prints and checks them


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


def sum_line(manifest: bytes) -> str:
    return f"{digest(manifest)}  {MANIFEST}\n"


class Ledger:
    """Checksums of the files of one artefact; a line is added once its file is whole on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / CHECKSUMS
        self.lock = threading.Lock()
        self.sums: dict[str, str] = {}
        if self.path.exists():
            for line in self.path.read_text().split("\n"):
                found = re.fullmatch(r"([0-9a-f]{32})  (.+)", line)  # a torn last line does not match
                if found:
                    self.sums[found[2]] = found[1]

    def add(self, name: str, value: str) -> None:
        with self.lock:
            self.sums[name] = value
            with self.path.open("a") as file:
                file.write(f"{value}  {name}\n")

    def drop(self, names: Iterable[str]) -> None:
        """Forgets files, so that the next run writes them again."""
        with self.lock:
            for name in names:
                self.sums.pop(name, None)
            self.save()

    def save(self) -> str:
        """Rewrites the lines in order; returns their digest."""
        text = "".join(f"{value}  {name}\n" for name, value in sorted(self.sums.items())).encode()
        write_whole(self.path, text)
        return digest(text)

    def whole(self, name: str) -> bool:
        """Whether the file was written to its end (its bytes are checked when read)."""
        return name in self.sums and (self.folder / name).exists()

    def read(self, name: str) -> bytes:
        """The bytes of a file, checked. Raises DamagedError."""
        path = self.folder / name
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise DamagedError(f"{path} is missing; `embprobe verify --repair {self.folder}` makes it again") from None
        self.compare(name, digest(data))
        return data

    def compare(self, name: str, found: str) -> None:
        if self.sums.get(name) != found:
            path = self.folder / name
            raise DamagedError(f"{path} is damaged; `embprobe verify --repair {self.folder}` makes it again")
