"""Makes a stage's artefact, or finds it made."""

import dataclasses
import os
import platform
import resource
import socket
import time
from importlib import metadata

from embprobe import console
from embprobe.errors import Interrupted, UserError
from embprobe.stage import Stage
from embprobe.store import Artefact, Json, Store

LIBRARIES = ("embprobe", "torch", "torchvision", "timm", "diffusers", "zarr", "numpy", "pillow", "clean-fid")


def make(stage: Stage, store: Store, *, wait: bool = True) -> Artefact:
    """The artefact of a stage, complete; continues what an earlier run began.

    Raises UserError where the inputs are unfinished or don't fit, Interrupted where a signal stopped the work.
    """
    out = store.open(stage)
    if out.complete:
        stage.deliver(out)
        return out
    for name, artefact in stage.inputs().items():
        if not artefact.complete:
            raise UserError(f"--{name}: {artefact.stage} {artefact.short} isn't finished; run its command again first")
    stage.check()
    with out.locked(wait=wait):
        if not out.complete:
            _run(stage, out)
    stage.deliver(out)
    return out


def _run(stage: Stage, out: Artefact) -> None:
    started = time.time()
    console.say(f"{stage.name()} {out.short}")
    out.log(event="started", **conditions(stage))
    try:
        stage.run(out)
    except Interrupted:
        out.log(event="stopped", seconds=time.time() - started)
        raise
    seconds = time.time() - started
    out.log(event="finished", seconds=seconds)
    log = out.read_log()
    earlier = sum(row["seconds"] for row in log if row.get("event") == "stopped")
    starts = [{k: row.get(k) for k in conditions(stage)} for row in log if row.get("event") == "started"]
    if any(start != starts[0] for start in starts):
        console.say(
            f"{stage.name()} {out.short} was continued under other conditions; rounding may differ from a single run"
        )
        out.note(continued_under=starts)
    out.commit(
        {
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
    runtime = {f.name: str(getattr(stage, f.name)) for f in dataclasses.fields(stage) if f.metadata.get("runtime")}
    threads = os.environ.get("OMP_NUM_THREADS") or str(os.cpu_count())
    return {"machine": platform.machine(), "threads": threads, "torch": versions()["torch"], **runtime}


def versions() -> dict[str, Json]:
    """Installed versions of the libraries that the numbers depend on."""
    found: dict[str, Json] = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found
