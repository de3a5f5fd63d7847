"""What can happen to the files of a store: every kind of damage to every kind of file."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from embprobe.store import Store

Names = dict[str, tuple[str, str]]
FIXED = ("log.jsonl", "spec.json", "manifest.json", "manifest.xxh128", "checksums.xxh128", ".lock")
ALONE = ("milestone", "log.jsonl", "snapshots")  # what nothing makes again alone, and a repair keeps


STAYS = {"contents": ("manifest.json", "manifest.xxh128", "spec.json"), "answer": ("spec.json",)}  # when all else goes


@dataclass(frozen=True)
class Wound:
    """One damage: its kind, the kind of file, the artefact by its name in the zoo, the file (none: the whole folder)."""

    kind: str
    of: str
    where: str
    name: str
    seed: int = 0
    other: tuple[str, str] | None = None  # the artefact and file it changes places with

    @property
    def label(self) -> str:
        return f"{self.kind} {self.of}"

    @property
    def alone(self) -> bool:
        """Whether it may take what can't be made again alone."""
        whole = self.name == "data.zarr" and self.where == "decode"
        return self.of in ALONE or "snapshots" in self.name or "milestones" in self.name or whole


def kind_of(name: str) -> str:
    """What kind of file it is."""
    if name in FIXED:
        return name
    if name.startswith("milestones/"):
        return "milestone"
    if name == "data.zarr/zarr.json":
        return "group"
    if "/snapshots/" in name:
        return "snapshots"
    if name.endswith("/zarr.json"):
        return "description"
    if name.startswith("data.zarr/"):
        return "chunk"
    return {".safetensors": "weights", ".json": "JSON", ".jsonl": "JSON lines"}.get(Path(name).suffix, "page")


# ---- bytes to other bytes

Change = Callable[[bytes, Random], bytes]


def flip(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def high(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] | 0x80]) + data[at + 1 :]


def zeros(data: bytes, rng: Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes(len(data[at : at + 4096])) + data[at + 4096 :]


def digit(data: bytes, rng: Random) -> bytes:
    starts = [0, *(i + 1 for i, b in enumerate(data[:-1]) if b == 10)]
    at = rng.choice(starts) + rng.randrange(32)
    return data[:at] + (b"0" if data[at] != 48 else b"1") + data[at + 1 :]


def letter(data: bytes, rng: Random) -> bytes:
    lines = data.split(b"\n")
    row = rng.randrange(len(lines) - 1)
    at = rng.randrange(34, len(lines[row]))
    lines[row] = lines[row][:at] + bytes([lines[row][at] ^ 1]) + lines[row][at + 1 :]
    return b"\n".join(lines)


def lost(data: bytes, rng: Random) -> bytes:
    lines = data.splitlines(keepends=True)
    gone = set(rng.sample(range(len(lines)), min(len(lines), rng.choice((1, 2, 5)))))
    return b"".join(line for i, line in enumerate(lines) if i not in gone)


CHANGES: dict[str, Change] = {
    "flip": flip,
    "cut": lambda data, rng: data[: rng.randrange(len(data))],
    "zeros": zeros,
    "appended": lambda data, rng: data + rng.randbytes(rng.choice((1, 16, 4096))),
    "empty": lambda data, rng: b"",
}
LEDGER: dict[str, Change] = {
    "high byte": high,
    "digit": digit,
    "letter": letter,
    "lines lost": lost,
    "torn": lambda data, rng: data[: -rng.randrange(1, 60)],
    "half a name": lambda data, rng: data + b"0" * 32 + b"  milestones/step_00",
    "no such file": lambda data, rng: data + b"0" * 32 + b"  data.zarr/images/c/99\n",
}
EVERY: dict[str, Change] = CHANGES | LEDGER


# ---- all there are


def wounds(store: Store, names: Names, seed: int) -> list[Wound]:
    """Every kind of damage at every file, in a random order that begins with one of each kind and kind of file."""
    rng = Random(seed)
    found: list[Wound] = []
    files = {name: sorted(files_of(store.root.joinpath(*where))) for name, where in names.items()}
    for where, own in files.items():
        for name in own:
            of = kind_of(name)
            kinds = [
                *CHANGES,
                "deleted",
                *(LEDGER if of == "checksums.xxh128" else ("high byte",) if ".json" in of else ()),
            ]
            found += [Wound(kind, of, where, name, rng.getrandbits(32)) for kind in kinds]
            like = [
                (w, n) for w, theirs in files.items() for n in theirs if kind_of(n) == of and (w, n) != (where, name)
            ]
            found += [Wound("swapped", of, where, name, 0, rng.choice(like))] if like else []
        folders = {"/".join(p) for n in own for p in [n.split("/")[:k] for k in range(1, n.count("/") + 1)]}
        found += [Wound("deleted", "folder", where, f) for f in sorted(folders) if f.count("/") < 3]
        others = [w for w in files if w != where]
        found += [Wound("swapped", "artefact", where, "", 0, (w, "")) for w in rng.sample(others, 2)]
        found += [Wound("swapped", of, where, "", 0, (rng.choice(others), "")) for of in STAYS]
    first: dict[str, Wound] = {}
    rng.shuffle(found)
    for wound in found:
        first.setdefault(wound.label, wound)
    chosen = set(first.values())
    return [*first.values(), *(w for w in found if w not in chosen)]


def files_of(path: Path) -> Iterator[str]:
    """Names of the files of an artefact."""
    for folder, _, names in os.walk(path):
        for name in names:
            yield str(Path(folder, name).relative_to(path))


def inflict(wound: Wound, store: Store, names: Names) -> bool:
    """Does the damage in a copy of the zoo; False where the bytes stayed as they were."""
    path = store.root.joinpath(*names[wound.where], wound.name)
    if wound.other is not None:
        where, name = wound.other
        if wound.of in STAYS:
            return inside(path, store.root.joinpath(*names[where]), STAYS[wound.of])
        return exchange(path, store.root.joinpath(*names[where], name))
    if wound.kind == "deleted":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return True
    before = path.read_bytes()
    after = changed(wound.kind, before, Random(wound.seed))
    path.unlink()  # it may be a second name of the zoo's own
    path.write_bytes(after)
    return after != before


def changed(kind: str, data: bytes, rng: Random) -> bytes:
    """Other bytes, by a kind of damage; where that changes nothing, one more byte."""
    if not data:
        return b"x"
    after = EVERY[kind](data, rng)
    return after if after != data else data + b"\0"


def exchange(one: Path, two: Path) -> bool:
    """Two files or folders change places."""
    same = one.is_file() and one.read_bytes() == two.read_bytes()
    beside = one.with_name(".beside")
    one.rename(beside)
    two.rename(one)
    beside.rename(two)
    return not same


def inside(one: Path, two: Path, stays: tuple[str, ...]) -> bool:
    """All that two folders hold changes places, but for what stays."""
    ours, theirs = ([p for p in folder.iterdir() if p.name not in stays] for folder in (one, two))
    beside = one.with_name(".beside")
    beside.mkdir()
    for entries, target in ((ours, beside), (theirs, one), (ours, two)):
        for entry in entries:
            (beside if target == two else entry.parent).joinpath(entry.name).rename(target / entry.name)
    beside.rmdir()
    return True
