"""Hashes of what files hold; a table of (path, size, time, inode) spares reading a file twice."""

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

from embprobe.errors import DamagedError, UserError
from embprobe.store import disk, trust

BLOCK = 1 << 20
MOST = 256 << 20  # bytes of the table


class HashTable:
    """Remembered content hashes by file identity, in the user's cache folder; it may be deleted at any time."""

    def __init__(self) -> None:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        self.path = Path(base) / "embprobe" / "hashes.json"
        self.known: dict[str, str] = {}
        with contextlib.suppress(OSError, DamagedError):
            known = trust.parsed(disk.read(self.path, MOST), self.path)
            if isinstance(known, dict) and all(isinstance(value, str) for value in known.values()):
                self.known = known
        self.changed = False

    def get(self, key: str) -> str | None:
        return self.known.get(key)

    def set(self, key: str, value: str) -> None:
        self.known[key] = value
        self.changed = True

    def save(self) -> None:
        """Writes the table if it grew; a folder that can't be written only costs speed."""
        if not self.changed:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.path.parent, delete=False) as file:
                json.dump(self.known, file)
            os.replace(file.name, self.path)
            self.changed = False
        except OSError:
            return


def identity(path: Path) -> str:
    """What tells that a file was not touched: absolute path, size, modification time, inode."""
    stat = path.stat()
    return f"{path.absolute()}:{stat.st_size}:{stat.st_mtime_ns}:{stat.st_ino}"


def file_hash(path: Path, table: HashTable | None = None) -> str:
    """blake2b-128 of the bytes of a file, in hex. Raises UserError if there is no such file."""
    if not path.is_file():
        raise UserError(f"there is no file {path}; check the path")
    table = table or HashTable()
    key = identity(path)
    known = table.get(key)
    if known:
        return known
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    table.set(key, digest.hexdigest())
    table.save()
    return digest.hexdigest()


def fingerprint(spec: object) -> str:
    """blake2b-128 of a JSON value in its canonical form, in hex."""
    canonical = json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()
