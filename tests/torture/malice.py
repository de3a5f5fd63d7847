"""Files and folders of a store made into what no embprobe would write."""

import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from embprobe.store import digest
from embprobe.store.trust import as_json, sum_of

Json = Any  # Any: whatever JSON can hold

# ---- what stands in the place of a file or folder


def _away(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def _moved(path: Path, canary: Path) -> None:
    """All is where it was, but behind a link that leads outside."""
    target = canary / "moved"
    path.rename(target) if path.exists() else target.mkdir()
    path.symlink_to(target)


def _socket(path: Path, canary: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    os.chdir(path.parent)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(path.name)
    os.chdir(here)
    os.close(here)


def _sparse(path: Path, canary: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


FILLERS: dict[str, Callable[[Path, Path], None]] = {
    "link to a file": lambda path, canary: path.symlink_to(canary / "keep.txt"),
    "link to a folder": lambda path, canary: path.symlink_to(canary / "folder"),
    "link to nothing": lambda path, canary: path.symlink_to(canary / "new"),
    "circle": lambda path, canary: path.symlink_to(path.name),
    "link to zeros": lambda path, canary: path.symlink_to("/dev/zero"),
    "pipe": lambda path, canary: os.mkfifo(path),
    "socket": _socket,
    "1 TB": _sparse,
    "folder": lambda path, canary: path.mkdir(),
    "moved": _moved,
}


def fill(name: str, filler: str, path: Path, canary: Path) -> None:
    place = (path.parent if name == ".." else path / name) if name else path
    place.parent.mkdir(parents=True, exist_ok=True)
    if filler != "moved":
        _away(place)
    FILLERS[filler](place, canary)


# ---- what files say


def seal(path: Path, changes: dict[str, Json] | None = None, *, without: str | None = None) -> None:
    """Makes the manifest agree with all that stands there, and its checksum with it."""
    manifest = json.loads((path / "manifest.json").read_bytes()) | (changes or {})
    manifest.setdefault("checksums", "")
    if not changes or "checksums" not in changes:
        manifest["checksums"] = digest((path / "checksums.xxh128").read_bytes())
    if not changes or "log" not in changes:
        manifest["log"] = digest((path / "log.jsonl").read_bytes())
    manifest.pop(without, None) if without else None
    data = json.dumps(manifest).encode()
    (path / "manifest.json").write_bytes(data)
    (path / "manifest.xxh128").write_bytes(sum_of(data, "manifest.json"))
    if all(key in manifest for key in ("spec", "options", "inputs")):
        asked = {k: manifest[k] for k in ("spec", "options", "inputs")}
        try:
            (path / "spec.json").write_bytes(as_json(asked))
        except (ValueError, RecursionError):  # what as_json would never write
            (path / "spec.json").write_text(json.dumps(asked))


def entry(line: bytes, path: Path, canary: Path) -> None:
    with (path / "checksums.xxh128").open("ab") as file:
        file.write(b"0" * 32 + b"  " + line.replace(b"CANARY", os.fsencode(canary)) + b"\n")
    seal(path)


def rewrite(name: str, data: bytes, path: Path, canary: Path) -> None:
    """Another content of a file, with all checksums to match."""
    (path / name).unlink(missing_ok=True)
    (path / name).write_bytes(data)
    sums = (path / "checksums.xxh128").read_text().splitlines()
    kept = [line for line in sums if not line.endswith(f"  {name}")]
    (path / "checksums.xxh128").write_text(
        "\n".join(sorted([*kept, f"{digest(data)}  {name}"], key=lambda x: x[34:])) + "\n"
    )
    seal(path)


def describe(change: dict[str, Json], path: Path, canary: Path) -> None:
    name = "data.zarr/embeddings/zarr.json"
    rewrite(name, json.dumps(json.loads((path / name).read_bytes()) | change).encode(), path, canary)


def tell(change: dict[str, Json], path: Path, canary: Path) -> None:
    text = json.dumps(change).replace("CANARY", str(canary))
    seal(path, json.loads(text))


def leave_out(key: str, path: Path, canary: Path) -> None:
    seal(path, without=key)


def tell_inside(key: str, change: dict[str, Json], path: Path, canary: Path) -> None:
    """Another value inside the options or inputs."""
    manifest = json.loads((path / "manifest.json").read_bytes())
    text = json.dumps(manifest[key] | change).replace("CANARY", str(canary)).replace("MYSELF", path.name)
    seal(path, {key: json.loads(text)})


def ask(data: bytes, path: Path, canary: Path) -> None:
    """Unfinished, asked by another spec.json."""
    for name in ("manifest.json", "manifest.xxh128"):
        (path / name).unlink()
    (path / "spec.json").write_bytes(data)


def log(data: bytes, path: Path, canary: Path) -> None:
    with (path / "log.jsonl").open("ab") as file:
        file.write(data)
    seal(path)


def lay_beside(name: str, data: bytes, path: Path, canary: Path) -> None:
    """A file of the store."""
    target = path.parent.parent / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data.replace(b"CANARY", os.fsencode(canary)))


def name(name: str, target: str, path: Path, canary: Path) -> None:
    names = path.parent.parent / "names"
    names.mkdir(exist_ok=True)
    target = target.replace("CANARY", str(canary)).replace("SELF", f"../{path.parent.name}/{path.name}")
    (names / name).symlink_to(target)


def lock(holder: Json, ahead: float, path: Path, canary: Path) -> None:
    (path / ".lock").write_text(json.dumps(holder))
    os.utime(path / ".lock", (time.time() + ahead, time.time() + ahead))


def cache(data: bytes, path: Path, canary: Path) -> None:
    table = path.parent.parent.parent / "cache/embprobe/hashes.json"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_bytes(data)


def follow(path: Path, canary: Path) -> None:
    """A copy that took what links name for folders, as `cp -rL` does."""
    store = path.parent.parent
    copy = store.with_name("followed")
    shutil.copytree(store, copy)
    shutil.rmtree(store)
    copy.rename(store)


def bomb(path: Path, canary: Path) -> None:
    from numcodecs import blosc

    rewrite("data.zarr/images/c/0/0/0/0", blosc.Blosc("lz4", 9).encode(bytes(1 << 30)), path, canary)


def lie(path: Path, canary: Path) -> None:
    name = "data.zarr/images/c/0/0/0/0"
    data = (path / name).read_bytes()
    rewrite(name, data[:4] + (2**31 - 1).to_bytes(4, "little") + data[8:], path, canary)
