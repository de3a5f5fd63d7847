"""Artefacts on disk; the only file that touches Zarr and paths inside the store."""

import json
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from embprobe import console
from embprobe.content import fingerprint
from embprobe.errors import DamagedError, MachineError, UserError, did_you_mean
from embprobe.lock import Lock

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

Json = Any  # Any: what json.loads returns: None, bool, int, float, str, list or dict of these

MANIFEST = "manifest.json"
MANIFEST_SUM = "manifest.xxh128"  # the manifest holds the digest of the checksums, this file that of the manifest
BEFORE = "manifest.before.json"
CHECKSUMS = "checksums.xxh128"  # one line a file, as xxh128sum prints and checks them
CACHE_BYTES = 256 << 20  # chunks an Array keeps for `take`


class Asked(Protocol):
    """What the store needs of a stage."""

    def spec(self) -> dict[str, Json]: ...
    def options(self) -> dict[str, Json]: ...
    def inputs(self) -> "dict[str, Artefact]": ...


# ---- files


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


def _dump(value: Json) -> bytes:
    return (json.dumps(_finite(value), indent=1, ensure_ascii=False) + "\n").encode()


def _finite(value: Json) -> Json:
    """The value with numbers that JSON lacks (nan, infinities) as null."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return value


def _sum_line(manifest: bytes) -> str:
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


# ---- arrays


class Array:
    """Rows of one Zarr v3 array, stored as uncompressed chunks of whole rows.

    Chunk files are read and written directly: each write is flushed and renamed into place, each read is checked.
    """

    def __init__(self, owner: "Artefact", name: str) -> None:
        import numpy as np

        self.owner, self.name = owner, name
        self.key = f"data.zarr/{name}"
        meta = json.loads(owner.ledger.read(f"{self.key}/zarr.json"))
        self.shape: tuple[int, ...] = tuple(meta["shape"])
        self.dtype: np.dtype[Any] = np.dtype(meta["data_type"])
        self.chunk_rows: int = meta["chunk_grid"]["configuration"]["chunk_shape"][0]
        self.attrs: dict[str, Json] = meta.get("attributes", {})
        self.n_chunks = -(-self.shape[0] // self.chunk_rows)
        self._cache: OrderedDict[int, np.ndarray] = OrderedDict()
        self._cache_lock = threading.Lock()
        row_bytes = self.dtype.itemsize * self._row_items()
        self._cache_chunks = max(2, CACHE_BYTES // max(1, row_bytes * self.chunk_rows))

    def __len__(self) -> int:
        return self.shape[0]

    def _row_items(self) -> int:
        items = 1
        for n in self.shape[1:]:
            items *= n
        return items

    def file(self, chunk: int) -> str:
        """The chunk's file, relative to the artefact."""
        return f"{self.key}/c/{'/'.join([str(chunk)] + ['0'] * (len(self.shape) - 1))}"

    def rows_of(self, chunk: int) -> range:
        """The rows that a chunk holds."""
        return range(chunk * self.chunk_rows, min(self.shape[0], (chunk + 1) * self.chunk_rows))

    def missing(self) -> list[int]:
        """Chunks not yet written whole."""
        return [c for c in range(self.n_chunks) if not self.owner.ledger.whole(self.file(c))]

    def write_chunk(self, chunk: int, values: "np.ndarray") -> None:
        """Writes the rows of one chunk: (len(rows_of(chunk)), …). Atomic; the lock is checked first."""
        import numpy as np

        rows = self.rows_of(chunk)
        if values.shape != (len(rows), *self.shape[1:]):
            raise ValueError(f"{self.name}: chunk {chunk} takes {(len(rows), *self.shape[1:])}, not {values.shape}")
        values = np.ascontiguousarray(values, dtype=self.dtype)
        if len(rows) < self.chunk_rows:  # Zarr stores the last chunk at full size
            pad = np.zeros((self.chunk_rows - len(rows), *self.shape[1:]), self.dtype)
            values = np.concatenate([values, pad])
        self.owner.write_bytes(self.file(chunk), values.reshape(-1).view(np.uint8).data)

    def write(self, values: "np.ndarray") -> None:
        """Writes the whole array; chunks that are there already stay."""
        for chunk in self.missing():
            rows = self.rows_of(chunk)
            self.write_chunk(chunk, values[rows.start : rows.stop])

    def chunk(self, index: int) -> "np.ndarray":
        """One chunk's rows, checked."""
        import numpy as np

        data = self.owner.ledger.read(self.file(index))
        values = np.frombuffer(data, self.dtype).reshape(-1, *self.shape[1:])
        return values[: len(self.rows_of(index))]

    def _cached(self, index: int) -> "np.ndarray":
        with self._cache_lock:
            if index in self._cache:
                self._cache.move_to_end(index)
                return self._cache[index]
        values = self.chunk(index)
        with self._cache_lock:
            self._cache[index] = values
            while len(self._cache) > self._cache_chunks:
                self._cache.popitem(last=False)
        return values

    def read(self, start: int = 0, stop: int | None = None) -> "np.ndarray":
        """Rows start to stop as stored; a new array of (stop − start, …)."""
        import numpy as np

        stop = self.shape[0] if stop is None else min(stop, self.shape[0])
        out = np.empty((max(0, stop - start), *self.shape[1:]), self.dtype)
        for index in range(start // self.chunk_rows, -(-stop // self.chunk_rows)):
            rows = self.rows_of(index)
            a, b = max(start, rows.start), min(stop, rows.stop)
            out[a - start : b - start] = self.chunk(index)[a - rows.start : b - rows.start]
        return out

    def take(self, rows: "np.ndarray") -> "np.ndarray":
        """Any rows as stored, (len(rows), …); keeps a bounded number of chunks in memory."""
        import numpy as np

        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        chunks = rows // self.chunk_rows
        for index in np.unique(chunks):
            here = np.nonzero(chunks == index)[0]
            out[here] = self._cached(int(index))[rows[here] - index * self.chunk_rows]
        return out

    def floats(self, rows: "np.ndarray | slice") -> "np.ndarray":
        """Rows as f32, decoded from f16, bf16 (held as u16) or int8 with its per-channel scale."""
        import numpy as np

        raw = self.read(rows.start or 0, rows.stop) if isinstance(rows, slice) else self.take(rows)
        encoding = self.attrs.get("encoding")
        if encoding == "bf16":
            return (raw.astype(np.uint32) << 16).view(np.float32)
        if encoding == "int8":
            return raw.astype(np.float32) * np.asarray(self.attrs["scale"], np.float32)
        return raw.astype(np.float32)


# ---- artefacts


class Artefact:
    """One folder of the store: STORE/<stage>/<fingerprint>/."""

    def __init__(self, store: "Store", stage: str, fingerprint: str) -> None:
        self.store, self.stage, self.fingerprint = store, stage, fingerprint
        self.path = store.root / stage / fingerprint
        self._manifest: dict[str, Json] | None = None
        self._ledger: Ledger | None = None
        self._lock: Lock | None = None
        self.notes: dict[str, Json] = {}
        self.asked: Asked | None = None

    def __repr__(self) -> str:
        return f"Artefact({self.stage}/{self.short})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Artefact) and (self.stage, self.fingerprint) == (other.stage, other.fingerprint)

    def __hash__(self) -> int:
        return hash((self.stage, self.fingerprint))

    @property
    def short(self) -> str:
        """The first ten digits, enough to name it."""
        return self.fingerprint[:10]

    @property
    def complete(self) -> bool:
        """Whether it is made: the manifest is written last."""
        return (self.path / MANIFEST).exists()

    @property
    def manifest(self) -> dict[str, Json]:
        """Spec, outputs, metrics, versions, host, time and memory. Raises UserError if it isn't complete."""
        if self._manifest is None:
            if not self.complete:
                raise UserError(f"{self.stage} {self.short} isn't finished; run its command again to continue it")
            found = self._checked_manifest()
            if found is None:
                raise DamagedError(f"{self.path / MANIFEST} is damaged; `embprobe verify --repair {self.path}`")
            self._manifest = found
        return self._manifest

    def _checked_manifest(self) -> dict[str, Json] | None:
        """The manifest as it was committed; None if its bytes changed."""
        beside = self.path / MANIFEST_SUM
        try:
            data = (self.path / MANIFEST).read_bytes()
            if beside.exists() and beside.read_text() != _sum_line(data):
                return None
            found: dict[str, Json] = json.loads(data)
            return found
        except (OSError, ValueError):
            return None

    @property
    def metrics(self) -> dict[str, Json]:
        """What the stage measured."""
        metrics: dict[str, Json] = self.manifest["metrics"]
        return metrics

    def _request(self) -> dict[str, Json]:
        if self.asked is not None:
            named = {k: [a.stage, a.fingerprint] for k, a in self.asked.inputs().items()}
            return {"spec": self.asked.spec(), "options": self.asked.options(), "inputs": named}
        try:
            request: dict[str, Json] = json.loads((self.path / "spec.json").read_text())
            return request
        except (OSError, ValueError):
            raise DamagedError(
                f"{self.path / 'spec.json'} is missing or damaged; remove the folder and make it again"
            ) from None

    @property
    def spec(self) -> dict[str, Json]:
        """The question it answers."""
        spec: dict[str, Json] = self._request()["spec"]
        return spec

    @property
    def options(self) -> dict[str, Json]:
        """The options as they were given, to ask the same again."""
        options: dict[str, Json] = self._request()["options"]
        return options

    @property
    def inputs(self) -> dict[str, "Artefact"]:
        """The artefacts it was made from, by option."""
        if self.asked is not None:
            return self.asked.inputs()
        return {k: Artefact(self.store, stage, fp) for k, (stage, fp) in self._request()["inputs"].items()}

    def lineage(self) -> Iterator["Artefact"]:
        """Itself and everything it was made from."""
        seen = {self}
        queue = [self]
        while queue:
            artefact = queue.pop()
            yield artefact
            fresh = [a for a in artefact.inputs.values() if a not in seen]
            seen.update(fresh)
            queue += fresh

    @property
    def ledger(self) -> Ledger:
        if self._ledger is None:
            self._ledger = Ledger(self.path)
        return self._ledger

    # -- reading

    def has(self, name: str) -> bool:
        """Whether the array or file of this name is whole."""
        if self.ledger.whole(name):
            return True
        return self.ledger.whole(f"data.zarr/{name}/zarr.json") and not Array(self, name).missing()

    def array(self, name: str) -> Array:
        """An array by name. Raises UserError if there is none."""
        if not self.ledger.whole(f"data.zarr/{name}/zarr.json"):
            raise UserError(f"{self.stage} {self.short} has no {name}")
        return Array(self, name)

    def read_json(self, name: str) -> Json:
        """A JSON file's value."""
        return json.loads(self.ledger.read(name))

    def read_lines(self, name: str) -> list[Json]:
        """The values of a JSON-lines file."""
        lines = self.ledger.read(name).decode().split("\n")  # not splitlines: a caption may hold U+2028
        return [json.loads(line) for line in lines if line]

    def file(self, name: str) -> Path:
        """The path of a file whose bytes were just checked."""
        path = self.path / name
        if not path.exists():
            raise DamagedError(f"{path} is missing; `embprobe verify --repair {self.path}` makes it again")
        self.ledger.compare(name, file_digest(path))
        return path

    def files(self, folder: str) -> list[str]:
        """Names of the whole files below a folder, sorted."""
        return sorted(n for n in self.ledger.sums if n.startswith(f"{folder}/") and (self.path / n).exists())

    # -- writing, inside Stage.run

    def write_bytes(self, name: str, data: "bytes | memoryview") -> None:
        """Writes one file whole and takes down its checksum. Raises MachineError if the lock was lost."""
        if self._lock is not None:
            self._lock.check()
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data)
        self.ledger.add(name, digest(data))

    def write_json(self, name: str, value: Json) -> None:
        """Writes a value as JSON."""
        self.write_bytes(name, _dump(value))

    def write_lines(self, name: str, values: Iterable[Json]) -> None:
        """Writes values as JSON lines."""
        self.write_bytes(name, "".join(json.dumps(v, ensure_ascii=False) + "\n" for v in values).encode())

    def write_tensors(self, name: str, tensors: "Mapping[str, Tensor]", metadata: dict[str, str] | None = None) -> None:
        """Writes tensors as safetensors."""
        from safetensors.torch import save

        self.write_bytes(name, save({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, metadata))

    def create(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        *,
        chunk_rows: int | None = None,
        attrs: dict[str, Json] | None = None,
    ) -> Array:
        """An array to write; the one begun before, if it has this shape and type."""
        key = f"data.zarr/{name}/zarr.json"
        if not self.ledger.whole(key):
            import zarr

            group = zarr.open_group(str(self.path / "data.zarr"), mode="a", zarr_format=3)
            chunks = (min(chunk_rows or shape[0], max(1, shape[0])) or 1, *shape[1:])
            group.create_array(
                name,
                shape=shape,
                dtype=dtype,
                chunks=chunks,
                compressors=None,
                filters=None,
                attributes=attrs,
                overwrite=True,
            )
            for file in ("data.zarr/zarr.json", key):
                self.write_bytes(file, (self.path / file).read_bytes())
        array = Array(self, name)
        if array.shape != tuple(shape):
            raise MachineError(
                f"{self.path / key} has shape {array.shape}, not {shape}; remove {self.path} and run again"
            )
        return array

    def remove(self, *names: str) -> None:
        """Removes files made on the way; forgotten first, so that none is missed if this is cut short."""
        if names:
            self.ledger.drop(names)
        for name in names:
            (self.path / name).unlink(missing_ok=True)

    def note(self, **metrics: Json) -> None:
        """Adds to the manifest's metrics."""
        self.notes |= metrics

    def log(self, **row: Json) -> None:
        """Adds a line to log.jsonl."""
        with (self.path / "log.jsonl").open("ab+") as file:
            end = file.tell()
            file.seek(max(0, end - 1))
            torn = b"" if file.read() in (b"", b"\n") else b"\n"  # of a line that a kill cut off
            file.write(torn + json.dumps(_finite(row)).encode() + b"\n")

    def read_log(self) -> list[dict[str, Json]]:
        """The rows of log.jsonl; a torn last line is left out."""
        try:
            lines = (self.path / "log.jsonl").read_text().splitlines()
        except FileNotFoundError:
            return []
        rows = []
        for line in lines:
            try:
                rows.append(json.loads(line))
            except ValueError:
                continue
        return rows

    @contextmanager
    def locked(self, wait: bool = True) -> Iterator[None]:
        """Holds the artefact; another process that asks for it waits, or leaves with 75."""
        self.path.mkdir(parents=True, exist_ok=True)
        with Lock(self.path / ".lock").held(wait=wait, what=f"{self.stage} {self.short}") as lock:
            self._lock = lock
            self._ledger = self._manifest = None  # the one who held it before may have written
            try:
                if not (self.path / "spec.json").exists():
                    write_whole(self.path / "spec.json", _dump(self._request()))
                yield
            finally:
                self._lock = None

    def commit(self, facts: dict[str, Json]) -> None:
        """Writes the manifest, last of all."""
        if self._lock is not None:
            self._lock.check()
        total = sum((self.path / name).stat().st_size for name in self.ledger.sums)
        manifest = {**self._request(), "metrics": self.notes, "files": len(self.ledger.sums), "bytes": total}
        manifest |= {"checksums": self.ledger.save(), **facts}
        data = _dump(manifest)
        write_whole(self.path / MANIFEST_SUM, _sum_line(data).encode())
        write_whole(self.path / MANIFEST, data)
        (self.path / BEFORE).unlink(missing_ok=True)
        self._manifest = None

    def reopen(self) -> None:
        """Takes back the commit, so that the stage runs again; the old manifest is kept aside until it has."""
        os.replace(self.path / MANIFEST, self.path / BEFORE)
        self._manifest = None

    def damage(self) -> list[str]:
        """Names of files that are missing or whose bytes changed; the ledger and manifest included."""
        manifest = self._checked_manifest()
        bad = [] if manifest is not None and (self.path / MANIFEST_SUM).exists() else [MANIFEST]
        if manifest and (not self.ledger.path.exists() or file_digest(self.ledger.path) != manifest["checksums"]):
            bad.append(CHECKSUMS)
        for name, value in sorted(self.ledger.sums.items()):
            path = self.path / name
            if not path.exists() or file_digest(path) != value:
                bad.append(name)
        return bad


class Store:
    """A folder of artefacts."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot use {self.root} as the store ({error.strerror}); give another with --store"
            ) from None
        if not os.access(self.root, os.W_OK):
            raise UserError(f"cannot write to the store {self.root}; give another with --store")

    def open(self, stage: Asked) -> Artefact:
        """The artefact that answers a stage's question, made or not."""
        spec = stage.spec()
        artefact = Artefact(self, spec["stage"], fingerprint(spec))
        artefact.asked = stage
        return artefact

    def artefacts(self) -> list[Artefact]:
        """All there is, finished or not, oldest first."""
        found = [p.parent for p in self.root.glob("*/*/spec.json") if not p.parent.is_symlink()]
        return [
            Artefact(self, p.parent.name, p.name)
            for p in sorted(found, key=lambda p: (p / "spec.json").stat().st_mtime)
        ]

    def lookup(self, word: str) -> Artefact | None:
        """An artefact by alias, fingerprint prefix or path; None if nothing is called so.

        Raises UserError where a prefix fits several.
        """
        link = self.root / "names" / word
        if "/" not in word and link.is_symlink():
            return self._at(link.resolve())
        if re.fullmatch(r"[0-9a-f]{6,32}", word):
            found = [p for p in self.root.glob(f"*/{word}*") if (p / "spec.json").exists() and not p.is_symlink()]
            if len(found) > 1:
                listed = ", ".join(f"{p.parent.name} {p.name[:12]}" for p in found)
                raise UserError(f"{word} fits {len(found)} artefacts ({listed}); give more digits")
            if found:
                return self._at(found[0])
        path = Path(word)
        if (path / "spec.json").exists():
            return self._at(path.resolve())
        return None

    def _at(self, path: Path) -> Artefact:
        if not (path / "spec.json").exists():
            raise UserError(f"{path} is no artefact any more; `embprobe ls` lists what is there")
        store = self if path.parent.parent == self.root.resolve() else Store(path.parent.parent)
        return Artefact(store, path.parent.name, path.name)

    def find(self, word: str) -> Artefact:
        """An artefact by alias, prefix or path. Raises UserError."""
        found = self.lookup(word)
        if found is None:
            names = [n for n, _ in self.names()]
            raise UserError(
                f"nothing called {word!r} in {self.root}{did_you_mean(word, names)}; `embprobe ls` lists what is there"
            )
        return found

    def left_out(self, option: str, kinds: tuple[str, ...], given: list[Artefact]) -> Artefact:
        """The artefact for an input that was not named: in the lineage of those given, else the only one that fits.

        One fits if, wherever its own lineage and that of the inputs given hold an artefact of the same stage, it is the
        same. Raises UserError where none or several fit.
        """
        lineage = {a for g in given for a in g.lineage()}
        inside = [a for a in lineage if a.stage in kinds]
        known = {a.stage: a for a in lineage}
        found = inside or [
            a
            for a in self.artefacts()
            if a.stage in kinds and a.complete and all(known.get(b.stage, b) == b for b in a.lineage())
        ]
        dashed = option.replace("_", "-")
        if not found:
            raise UserError(
                f"--{dashed} is missing and nothing in {self.root} fits; make one with `embprobe {kinds[0]}`"
            )
        if len(found) > 1:
            listed = ", ".join(f"{a.stage} {a.short}" for a in found)
            raise UserError(f"--{dashed} is missing and {len(found)} artefacts fit ({listed}); name one")
        console.say(f"--{dashed} {found[0].short} ({'in the lineage' if inside else 'the only one that fits'})")
        return found[0]

    def names(self) -> list[tuple[str, Artefact]]:
        """Aliases and what they name."""
        links = sorted((self.root / "names").glob("*")) if (self.root / "names").exists() else []
        return [(p.name, Artefact(self, p.resolve().parent.name, p.resolve().name)) for p in links if p.is_symlink()]

    def name(self, alias: str, artefact: Artefact) -> None:
        """Gives an artefact a name; one used before moves, and it is said."""
        if not alias or "/" in alias or alias.startswith("."):
            raise UserError(f"--name {alias!r} can't be a name; leave out slashes and a leading dot")
        link = self.root / "names" / alias
        link.parent.mkdir(exist_ok=True)
        target = Path("..") / artefact.stage / artefact.fingerprint
        if link.is_symlink() and link.readlink() != target:
            console.say(f"{alias} named {link.readlink().name[:10]} until now; it names {artefact.short} from here on")
        beside = link.with_name(f".{alias}.{os.getpid()}")
        beside.unlink(missing_ok=True)
        beside.symlink_to(target)
        os.replace(beside, link)
