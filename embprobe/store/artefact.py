"""One answer to one question: a folder of arrays, weights and a manifest."""

import errno
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from embprobe.errors import DamagedError, UserError
from embprobe.store import disk, places, trust
from embprobe.store.array import Array, create_array, metadata_of
from embprobe.store.files import Folder
from embprobe.store.hashes import fingerprint
from embprobe.store.lock import Lock
from embprobe.store.log import Log
from embprobe.store.question import Question
from embprobe.store.trust import Json, as_json

if TYPE_CHECKING:
    from torch import Tensor

SPEC = "spec.json"
MANIFEST = "manifest.json"
MANIFEST_SUM = "manifest.xxh128"  # the manifest holds the digest of the checksums, this file that of the manifest
WEIGHTS = "weights.safetensors"
BESIDE = "beside.safetensors"  # of networks that were trained with the one the weights are of
MILESTONES = "milestones"
CHECKPOINTS = "checkpoints"  # what unfinished work continues from; no finished artefact has any
LOCK = ".lock"


class Artefact:
    """One folder of a store: ROOT/<stage>/<fingerprint>/. Two are equal if they answer one question, wherever they lie."""

    def __init__(
        self, root: Path, stage: str, fingerprint: str, question: Question | None = None, path: Path | None = None
    ) -> None:
        self.root, self.stage, self.fingerprint, self.question = root, stage, fingerprint, question
        self.path = path or root / stage / fingerprint
        self.mends = path is not None  # made inside the damaged one, and so must give what that one gave
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
        """Its files; of a finished one, those that the manifest vouches for. Raises DamagedError."""
        folder = Folder(self.path)
        if self.complete:
            folder.seal(self.manifest["checksums"])
        return folder

    @property
    def log(self) -> Log:
        """What happened on the way, row by row."""
        return Log(self.folder, self.manifest.get("log") if self.complete else None)

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
        """Spec, outputs, metrics, events, versions, host, time and memory, as committed. Raises UserError, DamagedError."""
        if self._manifest is None:
            try:
                self._manifest = self.own(trust.manifest(self.path / MANIFEST, self.path / MANIFEST_SUM))
            except (FileNotFoundError, NotADirectoryError):
                raise UserError(
                    f"{self.stage} {self.short} isn't finished; run its command again to continue it"
                ) from None
            except DamagedError as error:
                raise DamagedError(f"{error}; `embprobe verify --repair {self.path}` mends it") from None
        return self._manifest

    @property
    def metrics(self) -> Json:
        """What the stage measured, by key."""
        return self.manifest["metrics"]

    def request(self) -> dict[str, Json]:
        """What it was asked for: spec, options, and inputs as stage and fingerprint. Raises DamagedError."""
        if self.question is not None:
            named = {k: [a.stage, a.fingerprint] for k, a in self.question.inputs().items()}
            return {"spec": self.question.spec(), "options": self.question.options(), "inputs": named}
        try:
            known = self.manifest if self.complete else self.own(trust.request(self.path / SPEC))
        except (FileNotFoundError, NotADirectoryError):
            where = "" if self.path.exists() else f"; copy it to {self.root}, or make it again"
            raise DamagedError(f"{self.path / SPEC} is missing{where}") from None
        return {key: known[key] for key in trust.REQUEST}

    def own(self, told: dict[str, Json]) -> dict[str, Json]:
        """What its files tell, if of the question that its name says. Raises DamagedError."""
        if (told["spec"]["stage"], fingerprint(told["spec"])) != (self.stage, self.fingerprint):
            raise DamagedError(f"{self.path} holds the answer to another question than its name says")
        return told

    @property
    def spec(self) -> Json:
        """The question it answers, by key."""
        return self.request()["spec"]

    @property
    def options(self) -> Json:
        """The options as they were given, by name, to ask the same again."""
        return self.request()["options"]

    @property
    def inputs(self) -> dict[str, "Artefact"]:
        """The artefacts it was made from, by option; from the other stores that this one knows, if need be."""
        if self.question is not None:
            return self.question.inputs()
        named = self.request()["inputs"]
        return {k: Artefact(places.home(self.root, stage, fp), stage, fp) for k, (stage, fp) in named.items()}

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

    def read_json(self, name: str, kind: type = object) -> Json:
        """A JSON file's value. Raises DamagedError, also for one that is not of this kind."""
        return trust.parsed(self.folder.read(name), self.path / name, kind)

    def read_lines(self, name: str) -> list[Json]:
        """The values of a JSON-lines file."""
        lines = self.folder.read(name).decode().split("\n")  # not splitlines: a caption may hold U+2028
        return [json.loads(line) for line in lines if line]

    def weights(self, step: int | None = None) -> Path:
        """The checked file of the final weights, or of a milestone's."""
        return trust.tensors(self.folder.local(WEIGHTS if step is None else milestone_name(step)))

    def weights_beside(self) -> Path:
        """The checked file of the networks that were trained along and kept. Raises UserError if there is none."""
        if not self.folder.has(BESIDE):
            raise UserError(f"{self.stage} {self.short} kept no other network beside its own")
        return trust.tensors(self.folder.local(BESIDE))

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
    def locked(self, wait: bool = True, doing: str = "made") -> Iterator[None]:
        """Holds the artefact; another process that asks for it waits, or leaves with 75."""
        self._make_place()
        with Lock(self.path / LOCK).held(wait=wait, what=f"{self.stage} {self.short}", doing=doing) as lock:
            self.__dict__.pop("folder", None)  # the one who held it before may have written
            self._manifest = None
            try:
                if not self.complete:
                    self._begin(lock)
                yield
            finally:
                self.__dict__.pop("folder", None)
                self._manifest = None

    def _begin(self, lock: Lock) -> None:
        self.folder.lock = lock
        self.folder.sweep()
        asked = as_json(self.request())
        if not self.begun or disk.read(self.path / SPEC, trust.MOST) != asked:
            self.folder.place(SPEC, asked)
            for other in {a.root for a in self.inputs.values()} - {self.root}:
                places.acquaint(self.root, other)

    def _make_place(self) -> None:
        """The folder, in folders that are no links. Raises UserError where the store can't be written."""
        try:
            missing = [p for p in (self.root, *self.root.parents) if not p.exists()]
            for path in (*reversed(missing), self.path.parent, self.path):
                if path != self.root and path.is_symlink():
                    raise DamagedError(f"{path} is a link; embprobe writes in no folder that a store links to")
                if disk.make_folder(path):
                    disk.sync(path.parent)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
                raise
            raise UserError(
                f"cannot write to the store {self.root} ({error.strerror}); give another with --store"
            ) from None

    def commit(self, facts: dict[str, Json]) -> None:
        """Writes the manifest, last of all, with what happened on the way."""
        folder = self.folder
        if folder.lock is not None:
            folder.lock.check()
        folder.clear(CHECKPOINTS)
        manifest = {**self.request(), "metrics": self.notes, "files": len(folder.sums), "bytes": folder.size()}
        manifest |= {"checksums": folder.save(), "log": self.log.settle()}
        data = as_json(manifest | facts)
        folder.place(MANIFEST_SUM, trust.sum_of(data, MANIFEST))
        folder.place(MANIFEST, data)
        folder.sweep()
        self._manifest = None
        self.__dict__.pop("folder", None)


def milestone_name(step: int) -> str:
    """The file of a milestone, relative to the artefact."""
    return f"{MILESTONES}/step_{step:08d}.safetensors"
