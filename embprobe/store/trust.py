"""What a file of a store may say: a store can come from anyone, and whatever it tells about itself is read through here."""

import json
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from embprobe.errors import DamagedError
from embprobe.store import disk

Json = Any  # Any: what json.loads returns: None, bool, int, float, str, list or dict of these

Identity = tuple[int, int, int]  # of a file, which changes when the file does
MOST = 64 << 20  # bytes of a file that describes others
PART = re.compile(r"[^\x00-\x1f\x7f/\\]{1,255}")
STAGE = re.compile(r"[a-z][a-z0-9_]{0,40}")
FINGERPRINT = re.compile(r"[0-9a-f]{32}")
LINE = re.compile(rb"([0-9a-f]{32})  (.+)")


def is_plain(name: str) -> bool:
    """Whether a name is relative and without `.` and `..`, so that it stays in the folder it is taken below."""
    return all(PART.fullmatch(part) and part not in (".", "..") for part in name.split("/"))


def ledger(data: bytes) -> tuple[dict[str, str], list[str]]:
    """Checksums by name, and the lines that are none: torn by a kill, or a name that leads outside."""
    sums: dict[str, str] = {}
    refused: list[str] = []
    for line in data.split(b"\n")[:-1]:  # what no line feed ends was cut off
        entry = LINE.fullmatch(line)
        name = entry[2].decode(errors="replace") if entry else ""
        if entry and is_plain(name) and "\ufffd" not in name:
            sums[name] = entry[1].decode()
        elif line:
            refused.append(line.decode(errors="replace"))
    return sums, refused


# ---- JSON


def parsed(data: bytes, path: Path) -> Json:
    """The value of a JSON file's bytes. Raises DamagedError."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise DamagedError(f"{path} is no JSON any more") from None


def json_rows(data: bytes) -> list[dict[str, Json]]:
    """The objects of JSON lines; torn and foreign ones are left out."""
    rows = []
    for line in data.split(b"\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _inputs(value: Json) -> bool:
    return isinstance(value, dict) and all(
        isinstance(v, list)
        and len(v) == 2
        and all(isinstance(word, str) for word in v)
        and STAGE.fullmatch(v[0])
        and FINGERPRINT.fullmatch(v[1])
        for v in value.values()
    )


REQUEST: dict[str, Callable[[Json], object]] = {
    "spec": lambda v: isinstance(v, dict) and isinstance(v.get("stage"), str),
    "options": lambda v: isinstance(v, dict),
    "inputs": _inputs,
}
MANIFEST: dict[str, Callable[[Json], object]] = REQUEST | {
    "metrics": lambda v: isinstance(v, dict),
    "files": lambda v: isinstance(v, int),
    "bytes": lambda v: isinstance(v, int),
    "checksums": lambda v: isinstance(v, str) and FINGERPRINT.fullmatch(v),
    "seconds": lambda v: isinstance(v, (int, float)),
    "peak_bytes": lambda v: isinstance(v, (int, float)),
    "finished": lambda v: isinstance(v, str),
    "host": lambda v: isinstance(v, str),
    "versions": lambda v: isinstance(v, dict),
}


def checked(value: Json, schema: dict[str, Callable[[Json], object]], path: Path) -> dict[str, Json]:
    """The value, which has all that it must. Raises DamagedError."""
    if not isinstance(value, dict):
        raise DamagedError(f"{path} holds no object")
    for key, fits in schema.items():
        if key not in value or not fits(value[key]):
            raise DamagedError(f"{path} has no `{key}` that could be one")
    return value


def request(path: Path) -> dict[str, Json]:
    """What an artefact was asked for, as its folder tells. Raises DamagedError, FileNotFoundError."""
    return _request(path, _identity(path))


def manifest(path: Path, sum_file: Path) -> dict[str, Json]:
    """A manifest as it was committed. Raises DamagedError, FileNotFoundError."""
    return _manifest(path, _identity(path), sum_file, _identity(sum_file) if sum_file.exists() else None)


@lru_cache(maxsize=8192)
def _request(path: Path, identity: Identity) -> dict[str, Json]:
    return checked(parsed(disk.read(path, MOST), path), REQUEST, path)


@lru_cache(maxsize=8192)
def _manifest(path: Path, identity: Identity, sum_file: Path, beside: Identity | None) -> dict[str, Json]:
    data = disk.read(path, MOST)
    if beside is not None and sum_of(data, path.name) != disk.read(sum_file, 1 << 12):
        raise DamagedError(f"{path} differs from its checksum")
    return checked(parsed(data, path), MANIFEST, path)


def _identity(path: Path) -> Identity:
    stat = path.lstat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def sum_of(data: bytes, name: str) -> bytes:
    """The line that `xxh128sum` checks these bytes by."""
    import xxhash

    return f"{xxhash.xxh3_128_hexdigest(data)}  {name}\n".encode()
