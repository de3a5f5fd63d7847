"""What a store may hold that came from somebody who wishes its reader ill."""

import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from embprobe.store import digest
from embprobe.store.files import as_json
from embprobe.store.trust import sum_of

Json = Any  # Any: whatever JSON can hold
CHUNK = "data.zarr/embeddings/c/0/0/0/0"
PLACES = {
    "extract": (
        ".lock", "log.jsonl", "checksums.xxh128", "spec.json", "manifest.json", "manifest.xxh128", "data.zarr",
        "data.zarr/zarr.json", "data.zarr/embeddings", "data.zarr/embeddings/c", "data.zarr/embeddings/c/0", CHUNK,
        "data.zarr/embeddings/zarr.json", ".tmp", ".repair", ".anew", "checkpoints", "", "..",
    ),
    "diffuse": ("weights.safetensors", "milestones", "milestones/step_00000005.safetensors", "denoiser.json"),
}  # fmt: skip


@dataclass(frozen=True)
class Trap:
    """Something set in the folder of an artefact of the zoo, or in its store."""

    name: str
    where: str
    set: Callable[[Path, Path], None]  # the artefact's folder, the canary's


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


def _fill(name: str, filler: str, path: Path, canary: Path) -> None:
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
        (path / "spec.json").write_bytes(as_json({k: manifest[k] for k in ("spec", "options", "inputs")}))


def _entry(line: bytes, path: Path, canary: Path) -> None:
    with (path / "checksums.xxh128").open("ab") as file:
        file.write(b"0" * 32 + b"  " + line.replace(b"CANARY", os.fsencode(canary)) + b"\n")
    seal(path)


def _file(name: str, data: bytes, path: Path, canary: Path) -> None:
    """Another content of a file, with all checksums to match."""
    (path / name).unlink(missing_ok=True)
    (path / name).write_bytes(data)
    sums = (path / "checksums.xxh128").read_text().splitlines()
    kept = [line for line in sums if not line.endswith(f"  {name}")]
    (path / "checksums.xxh128").write_text(
        "\n".join(sorted([*kept, f"{digest(data)}  {name}"], key=lambda x: x[34:])) + "\n"
    )
    seal(path)


def _array(change: dict[str, Json], path: Path, canary: Path) -> None:
    name = "data.zarr/embeddings/zarr.json"
    _file(name, json.dumps(json.loads((path / name).read_bytes()) | change).encode(), path, canary)


def _field(change: dict[str, Json], path: Path, canary: Path) -> None:
    text = json.dumps(change).replace("CANARY", str(canary))
    seal(path, json.loads(text))


def _without(key: str, path: Path, canary: Path) -> None:
    seal(path, without=key)


def _inner(key: str, change: dict[str, Json], path: Path, canary: Path) -> None:
    """Another value inside the options or inputs."""
    manifest = json.loads((path / "manifest.json").read_bytes())
    text = json.dumps(manifest[key] | change).replace("CANARY", str(canary)).replace("MYSELF", path.name)
    seal(path, {key: json.loads(text)})


def _request(data: bytes, path: Path, canary: Path) -> None:
    """Unfinished, asked by another spec.json."""
    for name in ("manifest.json", "manifest.xxh128"):
        (path / name).unlink()
    (path / "spec.json").write_bytes(data)


def _log(data: bytes, path: Path, canary: Path) -> None:
    with (path / "log.jsonl").open("ab") as file:
        file.write(data)
    seal(path)


def _beside(name: str, data: bytes, path: Path, canary: Path) -> None:
    """A file of the store."""
    target = path.parent.parent / name
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data.replace(b"CANARY", os.fsencode(canary)))


def _alias(name: str, target: str, path: Path, canary: Path) -> None:
    names = path.parent.parent / "names"
    names.mkdir(exist_ok=True)
    target = target.replace("CANARY", str(canary)).replace("SELF", f"../{path.parent.name}/{path.name}")
    (names / name).symlink_to(target)


def _locked(holder: Json, ahead: float, path: Path, canary: Path) -> None:
    (path / ".lock").write_text(json.dumps(holder))
    os.utime(path / ".lock", (time.time() + ahead, time.time() + ahead))


def _cache(data: bytes, path: Path, canary: Path) -> None:
    table = path.parent.parent.parent / "cache/embprobe/hashes.json"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_bytes(data)


def _followed(path: Path, canary: Path) -> None:
    """A copy that took what links name for folders, as `cp -rL` does."""
    store = path.parent.parent
    copy = store.with_name("followed")
    shutil.copytree(store, copy)
    shutil.rmtree(store)
    copy.rename(store)


def _bomb(path: Path, canary: Path) -> None:
    from numcodecs import blosc

    _file("data.zarr/images/c/0/0/0/0", blosc.Blosc("lz4", 9).encode(bytes(1 << 30)), path, canary)


def _lie(path: Path, canary: Path) -> None:
    name = "data.zarr/images/c/0/0/0/0"
    data = (path / name).read_bytes()
    _file(name, data[:4] + (2**31 - 1).to_bytes(4, "little") + data[8:], path, canary)


# ---- all there are

DEEP = b"[" * 100_000
WRONG: tuple[Json, ...] = (None, [], "word", -1, 10**400, {"a": [{"b": "\x1b[31m"}]}, [["x"] * 3], True)
FIELDS = ("spec", "options", "inputs", "metrics", "files", "bytes", "checksums", "seconds", "peak_bytes", "finished")
FIELDS += ("host", "versions", "events", "log", "work")
LINES = (
    b"CANARY/keep.txt",
    b"../../../canary/keep.txt",
    b"a/../../../../canary/keep.txt",
    b"a\0b",
    b"a\rb",
    b"./a",
    b"a//b",
)
LINES += (
    b"x" * 5000,
    b"..",
    b"/",
    b"\xff\xfe",
    b"\x1b[31mred",
    b"x/" * 2000 + b"x",
    b"manifest.json",
    b".lock",
    b"data.zarr",
)
BLOSC = {"name": "blosc", "configuration": {"cname": "x", "clevel": 99, "shuffle": 7, "blocksize": -1}}
ARRAYS: tuple[dict[str, Json], ...] = (
    {"shape": [10**15, 4, 4, 16]}, {"shape": [0, 4, 4, 16]}, {"shape": []}, {"shape": "40"}, {"shape": [40, 4, 4, 2**62]},
    {"shape": [-1, 4, 4, 16]}, {"shape": [40.0, 4, 4, 16]}, {"shape": [True, 4, 4, 16]}, {"data_type": "object"},
    {"data_type": {"name": "x"}}, {"data_type": "float64"}, {"codecs": []}, {"codecs": [{"name": "bytes"}, BLOSC]},
    {"codecs": [{"name": "sharding_indexed"}]}, {"codecs": [{"name": "bytes"}, {"name": "gzip"}]}, {"codecs": [1]},
    {"codecs": [{"name": "bytes", "configuration": 3}]}, {"attributes": [1]}, {"attributes": {"encoding": "int8", "scale": "x"}},
    {"attributes": {"encoding": 7}}, {"attributes": {"encoding": "int8"}}, {"chunk_grid": 3},
    {"chunk_grid": {"configuration": {"chunk_shape": [0, 4, 4, 16]}}},
    {"chunk_grid": {"configuration": {"chunk_shape": [10**12, 4, 4, 16]}}},
)  # fmt: skip


def traps() -> list[Trap]:
    """Every trap."""
    found = [
        Trap(f"{filler} for {name or 'the artefact'}", where, partial(_fill, name, filler))
        for where, names in PLACES.items()
        for name in names
        for filler in FILLERS
    ]
    found += [Trap(f"ledger names {line[:20]!r}", "extract", partial(_entry, line)) for line in LINES]
    found += [Trap(f"no {key}", "extract", partial(_without, key)) for key in FIELDS]
    found += [
        Trap(f"{key} is {str(value)[:12]}", "extract", partial(_field, {key: value}))
        for key in FIELDS
        for value in WRONG
    ]
    found += [Trap(f"array {change}", "extract", partial(_array, change)) for change in ARRAYS]
    requests = [
        b"",
        b"{}",
        b"[]",
        DEEP,
        b'{"spec": {"stage": "extract"}, "options": {}, "inputs": {}}',
        b"1" * 1_000_000,
    ]
    requests += [
        json.dumps({"spec": s, "options": o, "inputs": i}).encode()
        for s, o, i in ((1, {}, {}), ({}, 1, {}), ({}, {}, 1))
    ]
    found += [Trap(f"asked {data[:40]!r}", "extract", partial(_request, data)) for data in requests]
    rows = (
        b'{"step": "x"}\n',
        b'{"event": {}}\n',
        b'{"event": "stopped", "seconds": "x"}\n',
        b'{"event": "started"}\n[1]\n3\n',
    )
    rows += (
        b'{"step": 1e999}\n',
        DEEP + b"\n",
        b"x" * (60 << 20),
        b'{"step": ' + b"9" * 100_000 + b"}\n",
        b"\xff\n",
        b"\0\n",
    )
    found += [Trap(f"log {row[:30]!r}", where, partial(_log, row)) for row in rows for where in ("extract", "diffuse")]
    for where, name in (
        ("ingest", "classes.json"),
        ("pretrain", "encoder.json"),
        ("diffuse", "denoiser.json"),
        ("decode", "decoder.json"),
    ):
        for data in (DEEP, b"1" * 1_000_000, b"{}", b"[]", b"null", b'{"network": {"depth": 1000000000}}', b'"\xff"'):
            found.append(Trap(f"{name} {data[:30]!r}", where, partial(_file, name, data)))
    header = (1 << 62).to_bytes(8, "little")
    for where in ("pretrain", "diffuse", "decode"):
        for data in (b"", header, b"\x80\x04cos\nsystem\n.", bytes(8)):
            found.append(Trap(f"weights {data[:12]!r}", where, partial(_file, "weights.safetensors", data)))
    found += [Trap("bomb", "ingest", _bomb), Trap("blosc that lies", "ingest", _lie)]
    found += [
        Trap("key.jsonl " + str(d[:20]), "ingest", partial(_file, "key.jsonl", d))
        for d in (b"1\n[]\n", DEEP, b"\xff\n")
    ]
    stores = (
        b"CANARY\n",
        b"..\n",
        b"../canary\n",
        b"/\n",
        b"/dev/zero\n",
        b"x" * 5000 + b"\n",
        b"\0\n\xff\n",
        b"../copy\n",
        b"/proc\n",
    )
    found += [Trap(f"stores.txt {data[:20]!r}", "extract", partial(_beside, "stores.txt", data)) for data in stores]
    found += [
        Trap("options write pictures", "sample", partial(_inner, "options", {"png": "CANARY/png"})),
        Trap("options read a folder", "pictures", partial(_inner, "options", {"source": "CANARY/folder"})),
        Trap("options read zeros", "pictures", partial(_inner, "options", {"source": "/dev/zero"})),
        Trap("options of no stage", "extract", partial(_inner, "options", {"rm": "-rf"})),
        Trap(
            "options that are deep", "extract", partial(_inner, "options", {"device": [[[1]]], "encoder": ["a", "b"]})
        ),
        Trap("inputs in a circle", "extract", partial(_inner, "inputs", {"images": ["extract", "MYSELF"]})),
        Trap("inputs outside", "extract", partial(_inner, "inputs", {"images": ["..", "MYSELF"]})),
        Trap("copy of what links name", "pictures", _followed),
    ]
    holders: tuple[Json, ...] = (
        [1],
        7,
        {"host": "elsewhere", "pid": 1, "token": "x"},
        {"host": [], "pid": {}},
        "x" * 9000,
    )
    found += [
        Trap(f"lock {str(h)[:24]} {ahead:g}", "extract", partial(_locked, h, ahead))
        for h in holders
        for ahead in (-1e6, 1e6)
    ]
    found += [
        Trap(f"cache {data[:20]!r}", "pictures", partial(_cache, data))
        for data in (b"[]", b"{", DEEP, b'{"a": []}', b"1" * 100_000)
    ]
    aliases = (
        ("-rf", "SELF"),
        (" ", "SELF"),
        ("a\nb", "SELF"),
        ("\x1b[31m", "SELF"),
        ("x" * 250, "SELF"),
        ("out", "CANARY"),
    )
    aliases += (
        ("ring", "ring"),
        ("up", "../.."),
        ("gone", "../extract/" + "0" * 32),
        ("abs", "CANARY/keep.txt"),
        ("ok", "SELF"),
    )
    found += [
        Trap(f"alias {name[:9]!r} to {target[:9]}", "extract", partial(_alias, name, target))
        for name, target in aliases
    ]
    return found
