"""One answer to one question: a folder of arrays, weights and a manifest."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from embprobe.errors import DamagedError, EmbprobeError, UserError
from embprobe.store.array import GROUP, Array, create_array, metadata_of
from embprobe.store.files import CHECKSUMS, Folder, Json, as_json, digest, file_digest, write_whole
from embprobe.store.lock import Lock
from embprobe.store.log import Log

if TYPE_CHECKING:
    from torch import Tensor

SPEC = "spec.json"
MANIFEST = "manifest.json"
MANIFEST_SUM = "manifest.xxh128"  # the manifest holds the digest of the checksums, this file that of the manifest
BEFORE = "manifest.before.json"
WEIGHTS = "weights.safetensors"
MILESTONES = "milestones"


class Question(Protocol):
    """What the store needs of a stage."""

    def spec(self) -> dict[str, Json]: ...
    def options(self) -> dict[str, Json]: ...
    def inputs(self) -> "dict[str, Artefact]": ...


class Artefact:
    """One folder of a store: ROOT/<stage>/<fingerprint>/."""

    def __init__(self, root: Path, stage: str, fingerprint: str, question: Question | None = None) -> None:
        self.root, self.stage, self.fingerprint, self.question = root, stage, fingerprint, question
        self.path = root / stage / fingerprint
        self.notes: dict[str, Json] = {}
        self._manifest: dict[str, Json] | None = None

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

    @cached_property
    def folder(self) -> Folder:
        """Its files."""
        return Folder(self.path)

    @property
    def log(self) -> Log:
        """What happened on the way, row by row."""
        return Log(self.folder)

    # -- what it is

    @property
    def begun(self) -> bool:
        """Whether work on it has started."""
        return (self.path / SPEC).exists()

    @property
    def complete(self) -> bool:
        """Whether it is made: the manifest is written last."""
        return (self.path / MANIFEST).exists()

    @property
    def manifest(self) -> dict[str, Json]:
        """Spec, outputs, metrics, events, versions, host, time and memory. Raises UserError if it isn't complete."""
        if self._manifest is None:
            if not self.complete:
                raise UserError(f"{self.stage} {self.short} isn't finished; run its command again to continue it")
            manifest = self._checked_manifest()
            if manifest is None:
                raise DamagedError(f"{self.path / MANIFEST} is damaged; `embprobe verify --repair {self.path}`")
            self._manifest = manifest
        return self._manifest

    def _checked_manifest(self) -> dict[str, Json] | None:
        """The manifest as it was committed; None if its bytes changed."""
        beside = self.path / MANIFEST_SUM
        try:
            data = (self.path / MANIFEST).read_bytes()
            if beside.exists() and beside.read_text() != sum_line(data):
                return None
            manifest: dict[str, Json] = json.loads(data)
            return manifest
        except (OSError, ValueError):
            return None

    @property
    def metrics(self) -> Json:
        """What the stage measured, by key."""
        return self.manifest["metrics"]

    def _request(self) -> dict[str, Json]:
        if self.question is not None:
            named = {k: [a.stage, a.fingerprint] for k, a in self.question.inputs().items()}
            return {"spec": self.question.spec(), "options": self.question.options(), "inputs": named}
        try:
            request: dict[str, Json] = json.loads((self.path / SPEC).read_text())
            return request
        except (OSError, ValueError):
            raise DamagedError(f"{self.path / SPEC} is missing or damaged; remove the folder, make it again") from None

    @property
    def spec(self) -> Json:
        """The question it answers, by key."""
        return self._request()["spec"]

    @property
    def options(self) -> Json:
        """The options as they were given, by name, to ask the same again."""
        return self._request()["options"]

    @property
    def inputs(self) -> dict[str, "Artefact"]:
        """The artefacts it was made from, by option."""
        if self.question is not None:
            return self.question.inputs()
        return {k: Artefact(self.root, stage, fp) for k, (stage, fp) in self._request()["inputs"].items()}

    def lineage(self) -> Iterator["Artefact"]:
        """Itself and everything it was made from."""
        seen, queue = {self}, [self]
        while queue:
            artefact = queue.pop()
            yield artefact
            fresh = [a for a in artefact.inputs.values() if a not in seen]
            seen.update(fresh)
            queue += fresh

    # -- reading

    def has(self, name: str) -> bool:
        """Whether the array or file of this name is whole."""
        if self.folder.has(name):
            return True
        return self.begun_array(name) and not Array(self.folder, name).missing()

    def begun_array(self, name: str) -> bool:
        """Whether the array has been created, whole or not."""
        return self.folder.has(metadata_of(name))

    def array(self, name: str) -> Array:
        """An array by name. Raises UserError if there is none."""
        if not self.begun_array(name):
            raise UserError(f"{self.stage} {self.short} has no {name}")
        return Array(self.folder, name)

    def read_json(self, name: str) -> Json:
        """A JSON file's value."""
        return json.loads(self.folder.read(name))

    def read_lines(self, name: str) -> list[Json]:
        """The values of a JSON-lines file."""
        lines = self.folder.read(name).decode().split("\n")  # not splitlines: a caption may hold U+2028
        return [json.loads(line) for line in lines if line]

    def weights(self, step: int | None = None) -> Path:
        """The checked file of the final weights, or of a milestone's."""
        return self.folder.local(WEIGHTS if step is None else milestone_name(step))

    def milestones(self) -> list[int]:
        """Steps at which it keeps weights."""
        return [int(name.split("_")[-1].split(".")[0]) for name in self.folder.names(MILESTONES)]

    # -- writing, inside Stage.run

    def write_bytes(self, name: str, data: "bytes | memoryview") -> None:
        """Writes one file whole. Raises MachineError if the lock was lost."""
        self.folder.write(name, data)

    def write_json(self, name: str, value: Json) -> None:
        """Writes a value as JSON."""
        self.folder.write(name, as_json(value))

    def write_lines(self, name: str, values: Iterable[Json]) -> None:
        """Writes values as JSON lines."""
        self.folder.write(name, "".join(json.dumps(v, ensure_ascii=False) + "\n" for v in values).encode())

    def write_tensors(self, name: str, tensors: "Mapping[str, Tensor]", metadata: dict[str, str] | None = None) -> None:
        """Writes tensors as safetensors."""
        from safetensors.torch import save

        self.folder.write(name, save({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, metadata))

    def write_weights(self, tensors: "Mapping[str, Tensor]", step: int | None = None) -> None:
        """Writes the final weights, or a milestone's."""
        self.write_tensors(WEIGHTS if step is None else milestone_name(step), tensors)

    def has_weights(self, step: int | None = None) -> bool:
        """Whether the final weights, or a milestone's, are written."""
        return self.folder.has(WEIGHTS if step is None else milestone_name(step))

    def create(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: str,
        *,
        chunk_rows: int | None = None,
        attrs: dict[str, Json] | None = None,
        kind: str = "bare",
    ) -> Array:
        """An array to write, coded as arrays of its kind are; the one begun before, if it has this shape."""
        return create_array(self.folder, name, shape, dtype, chunk_rows=chunk_rows, attrs=attrs, kind=kind)

    def remove(self, *names: str) -> None:
        """Removes files made on the way."""
        self.folder.remove(*names)

    def note(self, **metrics: Json) -> None:
        """Adds to the manifest's metrics."""
        self.notes |= metrics

    # -- making

    @contextmanager
    def locked(self, wait: bool = True) -> Iterator[None]:
        """Holds the artefact; another process that asks for it waits, or leaves with 75."""
        self.path.mkdir(parents=True, exist_ok=True)
        with Lock(self.path / ".lock").held(wait=wait, what=f"{self.stage} {self.short}") as lock:
            self.__dict__.pop("folder", None)  # the one who held it before may have written
            self._manifest = None
            self.folder.lock = lock
            try:
                if not self.begun:
                    write_whole(self.path / SPEC, as_json(self._request()))
                yield
            finally:
                self.folder.lock = None

    def commit(self, facts: dict[str, Json]) -> None:
        """Writes the manifest, last of all, with what happened on the way."""
        if self.folder.lock is not None:
            self.folder.lock.check()
        manifest = {**self._request(), "metrics": self.notes}
        manifest |= {"files": len(self.folder.sums), "bytes": self.folder.size(), "checksums": self.folder.save()}
        data = as_json(manifest | facts)
        write_whole(self.path / MANIFEST_SUM, sum_line(data).encode())
        write_whole(self.path / MANIFEST, data)
        (self.path / BEFORE).unlink(missing_ok=True)
        self._manifest = None

    # -- checking and mending

    def damage(self) -> list[str]:
        """Names of files that are missing or whose bytes changed; the checksums and manifest included."""
        manifest, sums = self._checked_manifest(), self.path / CHECKSUMS
        bad = [] if manifest is not None and (self.path / MANIFEST_SUM).exists() else [MANIFEST]
        if manifest and (not sums.exists() or file_digest(sums) != manifest["checksums"]):
            bad.append(CHECKSUMS)
        return bad + self.folder.damaged()

    def describe(self, name: str) -> str:
        """A file, with the rows it holds where it is a chunk."""
        parts = name.split("/")
        if len(parts) > 3 and parts[0] == GROUP and parts[2] == "c":
            try:
                rows = self.array(parts[1]).rows_of(int(parts[3]))
                return f"{name} (chunk {parts[3]} of {parts[1]}, rows {rows.start} to {rows.stop - 1})"
            except EmbprobeError:
                return name
        return name

    def reopen(self, damaged: list[str]) -> dict[str, str]:
        """Takes back the commit and drops damaged files, so that the stage makes them again; their first checksums."""
        with self.locked():
            before = {name: self.folder.sums[name] for name in damaged if name in self.folder.sums}
            self.log.add(event="reopened", damaged=damaged)
            self.folder.remove(*damaged)
            if MANIFEST not in damaged:
                os.replace(self.path / MANIFEST, self.path / BEFORE)
            self._manifest = None
        return before


def milestone_name(step: int) -> str:
    """The file of a milestone, relative to the artefact."""
    return f"{MILESTONES}/step_{step:08d}.safetensors"


def sum_line(manifest: bytes) -> str:
    """The line that `xxh128sum` checks a manifest by."""
    return f"{digest(manifest)}  {MANIFEST}\n"
