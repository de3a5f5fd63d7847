"""Makes a stage's artefact, or finds it made."""

import os
import platform
import resource
import socket
import time
from functools import partial
from importlib import metadata

from embprobe import console
from embprobe.errors import Interrupted, UserError
from embprobe.options import build
from embprobe.stage import Stage
from embprobe.store import Artefact, Json, Store

LIBRARIES = (
    "embprobe",
    "torch",
    "torchvision",
    "timm",
    "diffusers",
    "zarr",
    "numcodecs",
    "numpy",
    "pillow",
    "clean-fid",
)
USUAL = ("started", "stopped", "finished")  # events of every run, which a manifest need not repeat


def make(stage: Stage, store: Store, *, wait: bool = True) -> Artefact:
    """The artefact of a stage, complete: prepared, checked, locked, and continued where an earlier run ended.

    Raises UserError where the inputs are unfinished or don't fit, Interrupted where a signal stopped the work.
    """
    stage = stage.prepare(partial(make, store=store, wait=wait), download=True)
    out = store.open(stage)
    if out.complete:
        stage.export(out)
        return out
    for name, artefact in stage.inputs().items():
        if not artefact.complete:
            raise UserError(f"--{name}: {artefact.stage} {artefact.short} isn't finished; run its command again first")
    stage.check()
    with out.locked(wait=wait):
        if not out.complete:
            _run(stage, out)
    stage.export(out)
    return out


def planned(stage: Stage, store: Store) -> Artefact:
    """The artefact that `make` would make, as far as it is there; fetches and makes nothing."""
    return store.open(stage.prepare(partial(planned, store=store), download=False))


def repaired(artefact: Artefact, cls: type[Stage], damaged: list[str]) -> tuple[Artefact, list[str]]:
    """Makes damaged files of an artefact again; it, and the names of those that differ from the first.

    Raises UserError where what it was made from has changed.
    """
    store = Store(artefact.root)
    stage = build(cls, artefact.options, store, partial(make, store=store))
    if planned(stage, store).fingerprint != artefact.fingerprint:
        raise UserError(
            f"{artefact.path}: its sources have changed since; restore them, or make it anew and remove this one"
        )
    before = artefact.reopen(damaged)
    again = make(stage, store)
    return again, [name for name, value in before.items() if again.folder.sums.get(name) != value]


def _run(stage: Stage, out: Artefact) -> None:
    began = time.time()
    console.say(f"{stage.name()} {out.short}")
    out.log.add(event="started", **conditions(stage))
    try:
        stage.run(out)
    except Interrupted:
        out.log.add(event="stopped", seconds=time.time() - began)
        raise
    seconds = time.time() - began
    out.log.add(event="finished", seconds=seconds)
    earlier = sum(row["seconds"] for row in out.log.events("stopped"))
    starts = [{k: row.get(k) for k in conditions(stage)} for row in out.log.events("started")]
    if any(start != starts[0] for start in starts):
        console.say(
            f"{stage.name()} {out.short} was continued under other conditions; rounding may differ from a single run"
        )
        out.note(continued_under=starts)
    out.commit(
        {
            "events": [row for row in out.log.events() if row["event"] not in USUAL],
            "seconds": round(seconds + earlier, 3),
            "work": stage.work(),
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "host": socket.gethostname(),
            "python": platform.python_version(),
            "versions": versions(),
        }
    )


def conditions(stage: Stage) -> dict[str, Json]:
    """What rounding depends on beside the question: machine, threads, library and the runtime options."""
    names = (name for name in ("device", "threads", "forward") if hasattr(stage, name))
    runtime = {name: str(getattr(stage, name)) for name in names}
    threads = os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count())
    return {"machine": platform.machine(), "threads": threads, "torch": versions()["torch"], **runtime}


def versions() -> dict[str, Json]:
    """Installed versions of the libraries that the numbers depend on."""
    installed: dict[str, Json] = {}
    for name in LIBRARIES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = None
    return installed
