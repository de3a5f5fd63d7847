"""What a store may hold that came from somebody who wishes its reader ill."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.torture import malice
from tests.torture.malice import Json

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


# ---- all there are

DEEP = b"[" * 100_000
WRONG: tuple[Json, ...] = (
    None,
    [],
    "word",
    -1,
    10**400,
    {"a": [{"b": "\x1b[31m"}]},
    [["x"] * 3],
    True,
    float("nan"),
    "\ud800",
    {"x": -float("inf")},
)
WRONG += (json.loads("[" * 900 + "]" * 900),)
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
        Trap(f"{filler} for {name or 'the artefact'}", where, partial(malice.fill, name, filler))
        for where, names in PLACES.items()
        for name in names
        for filler in malice.FILLERS
    ]
    found += [Trap(f"ledger names {line[:20]!r}", "extract", partial(malice.entry, line)) for line in LINES]
    found += [Trap(f"no {key}", "extract", partial(malice.leave_out, key)) for key in FIELDS]
    found += [
        Trap(f"{key} is {str(value)[:12]}", "extract", partial(malice.tell, {key: value}))
        for key in FIELDS
        for value in WRONG
    ]
    found += [Trap(f"array {change}", "extract", partial(malice.describe, change)) for change in ARRAYS]
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
    found += [Trap(f"asked {data[:40]!r}", "extract", partial(malice.ask, data)) for data in requests]
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
    found += [
        Trap(f"log {row[:30]!r}", where, partial(malice.log, row)) for row in rows for where in ("extract", "diffuse")
    ]
    for where, name in (
        ("ingest", "classes.json"),
        ("pretrain", "encoder.json"),
        ("diffuse", "denoiser.json"),
        ("decode", "decoder.json"),
    ):
        for data in (DEEP, b"1" * 1_000_000, b"{}", b"[]", b"null", b'{"network": {"depth": 1000000000}}', b'"\xff"'):
            found.append(Trap(f"{name} {data[:30]!r}", where, partial(malice.rewrite, name, data)))
    header = (1 << 62).to_bytes(8, "little")
    for where in ("pretrain", "diffuse", "decode"):
        for data in (b"", header, b"\x80\x04cos\nsystem\n.", bytes(8)):
            found.append(Trap(f"weights {data[:12]!r}", where, partial(malice.rewrite, "weights.safetensors", data)))
    found += [Trap("bomb", "ingest", malice.bomb), Trap("blosc that lies", "ingest", malice.lie)]
    found += [
        Trap("key.jsonl " + str(d[:20]), "ingest", partial(malice.rewrite, "key.jsonl", d))
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
    found += [
        Trap(f"stores.txt {data[:20]!r}", "extract", partial(malice.lay_beside, "stores.txt", data)) for data in stores
    ]
    found += [
        Trap("options write pictures", "sample", partial(malice.tell_inside, "options", {"png": "CANARY/png"})),
        Trap("options read a folder", "pictures", partial(malice.tell_inside, "options", {"source": "CANARY/folder"})),
        Trap("options read zeros", "pictures", partial(malice.tell_inside, "options", {"source": "/dev/zero"})),
        Trap("options of no stage", "extract", partial(malice.tell_inside, "options", {"rm": "-rf"})),
        Trap(
            "options that are deep",
            "extract",
            partial(malice.tell_inside, "options", {"device": [[[1]]], "encoder": ["a", "b"]}),
        ),
        Trap("inputs in a circle", "extract", partial(malice.tell_inside, "inputs", {"images": ["extract", "MYSELF"]})),
        Trap("inputs outside", "extract", partial(malice.tell_inside, "inputs", {"images": ["..", "MYSELF"]})),
        Trap("copy of what links name", "pictures", malice.follow),
    ]
    holders: tuple[Json, ...] = (
        [1],
        7,
        {"host": "elsewhere", "pid": 1, "token": "x"},
        {"host": [], "pid": {}},
        "x" * 9000,
    )
    found += [
        Trap(f"lock {str(h)[:24]} {ahead:g}", "extract", partial(malice.lock, h, ahead))
        for h in holders
        for ahead in (-1e6, 1e6)
    ]
    found += [
        Trap(f"cache {data[:20]!r}", "pictures", partial(malice.cache, data))
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
        Trap(f"alias {name[:9]!r} to {target[:9]}", "extract", partial(malice.name, name, target))
        for name, target in aliases
    ]
    return found
