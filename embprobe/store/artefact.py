"""One answer to one question: a folder of arrays, weights and a manifest."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from embprobe.errors import DamagedError, MachineError, UserError
from embprobe.store.lock import Lock
from embprobe.store.array import Array
from embprobe.store.files import (
    BEFORE,
    CHECKSUMS,
    MANIFEST,
    MANIFEST_SUM,
    Json,
    Ledger,
    as_json,
    digest,
    file_digest,
    finite,
    sum_line,
    write_whole,
)

if TYPE_CHECKING:
    from torch import Tensor

    from embprobe.store.store import Store


class Asked(Protocol):
    """What the store needs of a stage."""

    def spec(self) -> dict[str, Json]: ...
    def options(self) -> dict[str, Json]: ...
    def inputs(self) -> "dict[str, Artefact]": ...


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
            if beside.exists() and beside.read_text() != sum_line(data):
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
        self.write_bytes(name, as_json(value))

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
            file.write(torn + json.dumps(finite(row)).encode() + b"\n")

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
                    write_whole(self.path / "spec.json", as_json(self._request()))
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
        data = as_json(manifest)
        write_whole(self.path / MANIFEST_SUM, sum_line(data).encode())
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
