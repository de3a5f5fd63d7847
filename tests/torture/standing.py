"""The zoo as it stands, copies of it, and whether two stores hold the same."""

import gc
import json
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from embprobe.store import Store
from tests import tiny
from tests.torture import zoo
from tests.torture.wounds import Names

TIMES = ("events", "seconds", "at_work", "peak_bytes", "finished", "host", "python", "versions", "log", "work")


@dataclass
class Standing:
    """The zoo as it stands undamaged: where copies of it are made, and what each artefact holds."""

    root: Path
    store: Store
    names: Names
    users: dict[str, list[str]]
    content: dict[str, Any] = field(default_factory=dict)  # Any: JSON

    def copy(self, name: str = "copy") -> Store:
        """A copy; large files are second names of the zoo's own, which nothing writes into."""
        target = self.root / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.store.root, target, symlinks=True, copy_function=_linked)
        return Store(target)

    def path(self, store: Store, name: str) -> Path:
        return store.root.joinpath(*self.names[name])


def _linked(source: str, target: str) -> None:
    os.link(source, target) if os.stat(source).st_size > 1 << 16 else shutil.copy2(source, target)  # noqa: PTH116


def standing(root: Path) -> Standing:
    """The zoo below a folder, made if it is not there; with a data set of pictures beside the planted one."""
    zoo.shrink()
    for module in ("embprobe.cli", "typer._adapters"):  # so that no fork takes time for it
        with suppress(ImportError):
            import_module(module)
    gc.freeze()
    os.environ["XDG_CACHE_HOME"] = str(root / "cache")
    store, told = Store(root / "zoo"), root / "names.json"
    if not told.exists():
        root.mkdir(parents=True, exist_ok=True)
        tiny.class_folder(root / "pictures", ["cat", "dog"], 12)
        names = zoo.fill(store)
        folder = zoo.Ingest(source=str(root / "pictures"), size=16, val_share=0.25)
        zoo.forked(partial(zoo._make, folder, store))
        made = store.open(folder)
        store.name("pictures", made)
        told.write_text(json.dumps(names | {"pictures": (made.stage, made.fingerprint)}))
    names = {name: tuple(where) for name, where in json.loads(told.read_text()).items()}
    made = zoo.artefacts_in(store, names)
    users: dict[str, list[str]] = {
        name: [u for u, a in made.items() if made[name] in list(a.inputs.values()) and u != "pictures"]
        for name in names
    }
    for needed in made["report"].lineage():
        users[next(n for n, a in made.items() if a == needed)].append("report") if needed in made.values() else None
    here = Standing(root, store, names, users)
    here.content = told_by(store.root)
    return here


def told_by(root: Path) -> dict[str, Any]:  # Any: JSON
    """What a store holds, with what its manifests and logs tell beside the time."""
    found: dict[str, Any] = dict(zoo.content(root))
    for path in root.glob("*/*/manifest.json"):
        name = str(path.relative_to(root))
        with suppress(ValueError, AttributeError):
            found[name] = {k: v for k, v in json.loads(path.read_bytes()).items() if k not in TIMES}
            found[name]["metrics"].pop("continued_under", None)  # as an unfinished log tells, which nothing vouches for
    return found


def proper(end: zoo.End, what: str) -> list[str]:
    """What was wrong about the end of a command: a traceback, another exit code, more than one line of failure."""
    if not end.clean:
        return [f"traceback of {what} (exit {end.code}): {end.said[-1500:]}"]
    said = [line for line in end.said.split("\n") if line.startswith("embprobe: ")]
    return [f"{what} exits {end.code} with {len(said)} lines"] if len(said) != (end.code != 0) else []
