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
DEEPEST = 40  # levels of values in values, in a file that describes others
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


class Told(dict[str, Json]):
    """An object of a JSON file. Raises DamagedError for a key that it does not have."""

    path: Path

    def __missing__(self, key: str) -> Json:
        raise DamagedError(f"{self.path} tells of no {key!r}; embprobe would not have written it so")


def parsed(data: bytes, path: Path, kind: type = object) -> Json:
    """The value of a JSON file's bytes, of this kind. Raises DamagedError."""

    def told(value: dict[str, Json]) -> Told:
        found = Told(value)
        found.path = path
        return found

    try:
        value = json.loads(data, object_hook=told)
    except (ValueError, RecursionError):
        raise DamagedError(f"{path} is no JSON any more") from None
    if not isinstance(value, kind):
        raise DamagedError(f"{path} holds no {kind.__name__}; embprobe would not have written it so")
    return value


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
    "files": lambda v: _is_number(v),
    "bytes": lambda v: _is_number(v),
    "checksums": lambda v: isinstance(v, str) and FINGERPRINT.fullmatch(v),
    "seconds": lambda v: _is_number(v),
    "peak_bytes": lambda v: _is_number(v),
    "finished": lambda v: isinstance(v, str),
    "host": lambda v: isinstance(v, str),
    "versions": lambda v: isinstance(v, dict),
}


PERHAPS: dict[str, Callable[[Json], object]] = {
    "events": lambda v: isinstance(v, list) and all(isinstance(event, dict) for event in v),
    "work": lambda v: _is_number(v),
    "conditions": lambda v: isinstance(v, dict),
    "device_peak_bytes": lambda v: v is None or _is_number(v),
    "log": lambda v: isinstance(v, str) and FINGERPRINT.fullmatch(v),
}


def _is_number(value: Json) -> bool:
    return isinstance(value, (int, float)) and 0 <= value < 1e18


def _is_flat(value: Json, levels: int) -> bool:
    """Whether values in values go no deeper than that."""
    level = [value]
    for _ in range(levels):
        inner = [v.values() if isinstance(v, dict) else v for v in level if isinstance(v, (dict, list))]
        level = [v for values in inner for v in values]
        if not level:
            return True
    return False


def _is_strict(value: Json) -> bool:
    """Whether it can be written again as every reader takes it: numbers that JSON has, text that is Unicode."""
    try:
        return bool(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())
    except ValueError:
        return False


def checked(value: Json, schema: dict[str, Callable[[Json], object]], path: Path) -> dict[str, Json]:
    """The value, which has all that it must. Raises DamagedError."""
    if not isinstance(value, dict) or not _is_flat(value, DEEPEST) or not _is_strict(value):
        raise DamagedError(f"{path} holds no object that could be its own")
    for key, fits in (schema | {k: fits for k, fits in PERHAPS.items() if k in value}).items():
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


def tensors(path: Path) -> Path:
    """A file that holds tensors, as its header tells. Raises DamagedError."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "np"):
            return path
    except SafetensorError as error:
        raise DamagedError(f"{path} holds no tensors ({error}); it was not made by embprobe") from None


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
