"""Makes a stage's artefact, or finds it made."""

import contextlib
import platform
import resource
import socket
import time
from functools import partial
from importlib import metadata
from pathlib import Path

from embprobe import console
from embprobe.errors import DamagedError, Interrupted, UserError
from embprobe.options import build
from embprobe.stage import RUNTIME, Stage
from embprobe.store import Artefact, Json, Store, mending, removal

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
STATUS, CLEAR_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")
USUAL = ("started", "stopped", "finished")  # events of every run, which a manifest need not repeat


def make(stage: Stage, store: Store, *, wait: bool = True) -> Artefact:
    """The artefact of a stage, complete: prepared, checked, locked, and continued where an earlier run ended.

    One that is put off is only asked for: its folder says what it would hold, and nothing is made. Raises UserError
    where the inputs are unfinished or don't fit, Interrupted where a signal stopped the work.
    """
    stage = stage.prepare(partial(make, store=store, wait=wait), download=True)
    out = store.open(stage)
    if out.complete:
        stage.export(out)
        return out
    _check_inputs(stage)
    if stage.is_put_off():
        _ask(out, wait)
        return out
    for artefact in stage.inputs().values():
        _ask(artefact, wait)
    asked = out.begun
    with out.locked(wait=wait):
        if not out.complete:
            try:
                _run(stage, out)
            except UserError:
                if not asked:  # else another may have been made from it
                    removal.withdraw(out)
                raise
    stage.export(out)
    return out


def _ask(artefact: Artefact, wait: bool) -> None:
    """Writes down what an artefact would hold, so that others can be made from it."""
    if not artefact.begun and artefact.question is not None:
        with artefact.locked(wait=wait, doing="asked for"):
            artefact.folder.sweep()


def planned(stage: Stage, store: Store) -> Artefact:
    """The artefact that `make` would make, as far as it is there; fetches and makes nothing."""
    return store.open(stage.prepare(partial(planned, store=store), download=False))


def repaired(artefact: Artefact, cls: type[Stage], *, anew: bool = False) -> mending.Mended:
    """Mends a damaged artefact; files that are missing or changed are made again beside the whole ones.

    Raises UserError where what it was made from is gone or has changed, Interrupted where a signal came.
    """

    def again(scratch: Artefact) -> None:
        store = Store(artefact.root)
        stage = build(cls, mending.asked(artefact)["options"], store, partial(make, store=store))
        stage = stage.prepare(partial(make, store=store), download=False)
        if store.open(stage).fingerprint != artefact.fingerprint:
            raise UserError("its sources have changed since; restore them, or make it anew and remove this one")
        _check_inputs(stage)
        scratch.question = stage
        with scratch.locked():
            _run(stage, scratch)

    return mending.mend(artefact, again, anew=anew)


def _check_inputs(stage: Stage) -> None:
    for name, artefact in stage.needed().items():
        if not artefact.complete:
            raise UserError(
                f"--{name}: {artefact.stage} {artefact.short} isn't finished; run its command again first"
                + (", without --later (only `compress --through` goes without)" if artefact.stage == "extract" else "")
            )
    stage.check()


def _run(stage: Stage, out: Artefact) -> None:
    console.say(f"{stage.name()} {out.short}")
    known = conditions(stage)
    began, worked = time.time(), console.seconds_at_work()
    device = str(known.get("device", "cpu"))
    _forget_peaks(device)
    out.log.add(event="started", **known)
    try:
        _work(stage, out)
    except Interrupted:
        at_work = console.seconds_at_work() - worked
        out.log.add(event="stopped", seconds=time.time() - began, at_work=at_work)
        raise
    seconds = time.time() - began
    out.log.add(event="finished", seconds=seconds)
    at_work = console.seconds_at_work() - worked + _spent(out, "at_work")
    starts = [{k: row.get(k) for k in known} for row in out.log.events("started")]
    if any(start != starts[0] for start in starts):
        console.say(
            f"{stage.name()} {out.short} was continued under other conditions; rounding may differ from a single run"
        )
        out.note(continued_under=starts)
    out.commit(
        {
            "events": [row for row in out.log.events() if row["event"] not in USUAL],
            "seconds": round(seconds + _spent(out, "seconds"), 3),
            "at_work": round(at_work, 3),
            "work": stage.work(),
            **_peaks(device),
            "conditions": known,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "host": socket.gethostname(),
            "python": platform.python_version(),
            "versions": versions(),
        }
    )


def _spent(out: Artefact, key: str) -> float:
    """Seconds of earlier processes that were stopped, by their log."""
    return sum(s for row in out.log.events("stopped") if isinstance(s := row.get(key), (int, float)))


def _work(stage: Stage, out: Artefact) -> None:
    """Runs the stage, and once more for what an earlier process wrote and the disk has lost since."""
    try:
        stage.run(out)
        lost = out.folder.recheck()
    except DamagedError:
        lost = out.folder.recheck()
        if not lost:  # an input is damaged
            raise
    if not lost:
        return
    console.say(
        f"{stage.name()} {out.short}: {', '.join(lost[:3])} changed on the disk before the end; making it again"
    )
    out.log.add(event="lost", names=lost)
    stage.run(out)
    gone = [name for name in lost if name not in out.folder.sums]
    if gone:
        raise DamagedError(
            f"{out.path / gone[0]} was lost before the end and can't be made again alone; "
            f"`embprobe rm {out.path}`, and run the same command again"
        )


def conditions(stage: Stage) -> dict[str, Json]:
    """What rounding depends on beside the question: machine, device, threads, library and the runtime options."""
    names = (
        n for n in RUNTIME if n not in ("device", "threads", "png", "profile", "tensorboard") and hasattr(stage, n)
    )
    known: dict[str, Json] = {"machine": platform.machine(), "torch": versions()["torch"]}
    known |= {name: str(getattr(stage, name)) for name in names}
    if hasattr(stage, "device"):
        from embprobe.device import device_of, facts_of

        known |= facts_of(device_of(stage.device, deterministic=getattr(stage, "deterministic", True)))
    return known


def _forget_peaks(device: str) -> None:
    """Measures the most memory anew, so that a stage does not tell of an earlier one's in the same process."""
    with contextlib.suppress(OSError):
        CLEAR_PEAK.write_text("5")
    if device != "cpu":
        from embprobe.device import forget_peak

        forget_peak(device)


def _peaks(device: str) -> dict[str, Json]:
    """Most memory that this process held since then; on a GPU too."""
    status = STATUS.read_text() if STATUS.is_file() else ""
    held = next((line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")), None)
    kilobytes = int(held) if held else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peaks: dict[str, Json] = {"peak_bytes": kilobytes * 1024}
    if device != "cpu":
        from embprobe.device import peak_of

        peaks["device_peak_bytes"] = peak_of(device)
    return peaks


def versions() -> dict[str, Json]:
    """Installed versions of the libraries that the numbers depend on."""
    installed: dict[str, Json] = {}
    for name in LIBRARIES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            installed[name] = None
    return installed
