"""A study of hostile stores: whatever they hold, a command ends in one line, soon, and touches nothing outside."""

import json
import os
import re
import resource
import shutil
import stat
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from embprobe.store import Store, digest
from tests.torture import zoo
from tests.torture.standing import Standing, standing
from tests.torture.traps import CHUNK, Trap, traps

SECONDS, BYTES = 10.0, 1 << 30  # that a command may take, and of memory more than it began with
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
Work = Callable[[], int | None]
Command = Callable[[Standing, Store, str], Work]


# ---- commands


def _cli(*words: str) -> Command:
    """A command line; PATH and FP stand for the artefact, DENOISER and DECODER for those of the zoo."""

    def build(here: Standing, store: Store, where: str) -> Work:
        path, fps = here.path(store, where), {name: fp for name, (_, fp) in here.names.items()}
        given = {"PATH": str(path), "FP": fps[where], "DENOISER": fps["diffuse"], "DECODER": fps["decode"]}
        return zoo.command(*(given.get(word, word) for word in words), "--store", store.root)

    return build


def _ask(here: Standing, store: Store, name: str) -> int:
    made = zoo.artefacts_in(store, here.names)
    stage = _pictures(here) if name == "pictures" else zoo.STAGES[name](made)
    zoo.make(stage, store)
    return 0


def _pictures(here: Standing) -> zoo.Stage:
    return zoo.Ingest(source=str(here.root / "pictures"), size=16, val_share=0.25)


def _continue(here: Standing, store: Store, where: str) -> Work:
    """Asks again for the artefact, as if it were not finished."""
    for name in ("manifest.json", "manifest.xxh128"):
        path = here.path(store, where) / name
        if (
            path.is_file()
            and not path.is_symlink()
            and not path.parent.is_symlink()
            and not path.parent.parent.is_symlink()
        ):
            path.unlink()
    return partial(_ask, here, store, where)


def _use(here: Standing, store: Store, where: str) -> Work:
    """Asks for what is made from the artefact."""
    user = (here.users[where] or ["report"])[0]
    shutil.rmtree(here.path(store, user), ignore_errors=True)
    return partial(_ask, here, store, user)


def _mend(*words: str) -> Command:
    """A repair where a chunk or file is damaged too."""

    def build(here: Standing, store: Store, where: str) -> Work:
        path = here.path(store, where)
        for name in (CHUNK, "data.zarr/images/c/0/0/0/0", "log.jsonl"):
            if (path / name).is_file() and not any(p.is_symlink() for p in (path / name, *(path / name).parents)):
                (path / name).unlink()
                (path / name).write_bytes(b"rot")
                break
        return _cli("verify", "--repair", *words)(here, store, where)

    return build


COMMANDS: dict[str, Command] = {
    "ls": _cli("ls"),
    "ls --json": _cli("ls", "--json"),
    "show": _cli("show", "FP"),
    "show --json": _cli("show", "--json", "PATH"),
    "verify": _cli("verify"),
    "verify --repair": _cli("verify", "--repair"),
    "repair of a chunk": _mend(),
    "repair anew": _mend("--anew", "PATH"),
    "rm": _cli("rm", "--yes", "PATH"),
    "rm --recursive": _cli("rm", "--recursive", "--yes", "FP"),
    "gc --dry-run": _cli("gc", "--dry-run"),
    "gc": _cli("gc", "--yes"),
    "continue": _continue,
    "use": _use,
    "milestone": _cli(
        "sample", "--denoiser", "DENOISER", "--decoder", "DECODER", "--milestone", "0.5", "--count", "8", "--steps", "2"
    ),
}


# ---- other stores


def _foreign(here: Standing) -> Work:
    """`rm` of a folder that is no artefact, but has a spec.json."""
    mine = here.root / "canary/proj/mine"
    mine.mkdir(parents=True)
    (mine / "spec.json").write_text("{}")
    return zoo.command("rm", "--yes", mine, "--store", here.copy().root)


def _named_so(here: Standing) -> Work:
    """The same where its names could be those of an artefact."""
    mine = here.root / "canary/proj" / ("0" * 32)
    mine.mkdir(parents=True)
    (mine / "spec.json").write_text('{"spec": {"stage": "proj"}, "options": {}, "inputs": {}}')
    return zoo.command("rm", "--recursive", "--yes", mine, "--store", here.copy().root)


def _nowhere(*words: str) -> Callable[[Standing], Work]:
    return lambda here: zoo.command(*words, "--store", here.root / "canary/typo")


def _read_only(what: str) -> Callable[[Standing], Work]:
    """Work by one who may only read the store."""

    def build(here: Standing) -> Work:
        store = here.copy("canary/readonly")
        mine = here.root / "mine"
        shutil.rmtree(mine, ignore_errors=True)
        mine.mkdir()
        mine.chmod(0o777)
        recipe = here.root / "plan.yaml"
        recipe.write_text("steps:\n- ingest: {source: planted, count: 40, size: 16, val_share: 0.5}\n")
        extract, compress = here.path(store, "extract"), zoo.STAGES["compress"](zoo.artefacts_in(store, here.names))
        lines = {
            "ls": zoo.command("ls", "--store", store.root),
            "show": zoo.command("show", extract, "--store", mine),
            "verify": zoo.command("verify", "--store", store.root),
            "plan": zoo.command("plan", recipe, "--store", store.root),
            "use": lambda: zoo.make(compress, Store(mine)) and 0,
        }

        def run() -> int | None:
            os.environ["XDG_CACHE_HOME"] = str(mine)
            if not os.getuid():  # root may write anywhere
                os.setuid(65534)
            return lines[what]()

        return run

    return build


OTHERS: dict[str, tuple[Callable[[Standing], Work], tuple[int, ...]]] = {
    "rm of a foreign folder": (_foreign, (2, 3)),
    "rm of a foreign folder named so": (_named_so, (2, 3)),
    "ls of no store": (_nowhere("ls"), (2,)),
    "verify of no store": (_nowhere("verify"), (2,)),
    "gc of no store": (_nowhere("gc", "--yes"), (2,)),
    **{f"read-only {what}": (_read_only(what), (0,)) for what in ("ls", "show", "verify", "plan", "use")},
}

# ---- the study

Case = tuple[Trap, str] | str


def cases(seed: int) -> list[Case]:
    """The other stores, then every trap once with some command, then all other combinations."""
    rng = Random(seed)
    every = [(trap, command) for trap in traps() for command in COMMANDS]
    rng.shuffle(every)
    first = list({trap.name + trap.where: (trap, command) for trap, command in every}.values())
    rng.shuffle(first)
    begun = {(id(trap), command) for trap, command in first}
    return [*OTHERS, *first, *(c for c in every if (id(c[0]), c[1]) not in begun)]


def study(root: Path, trials: int, seed: int) -> dict[str, Any]:  # Any: JSON
    """Sets traps in copies of the zoo and runs commands there; counts of how they ended, and everything that went wrong."""
    here = standing(root)
    ends: dict[str, Counter[str]] = {}
    wrong: list[str] = []
    control: list[str] = []
    worst = {"seconds": 0.0, "bytes": 0}
    chosen = cases(seed)[:trials]
    for index, case in enumerate(chosen):
        label = case if isinstance(case, str) else f"{case[0].name} ({case[0].where}): {case[1]}"
        end, faults, used = trial(here, case)
        ends.setdefault(case if isinstance(case, str) else case[1], Counter())[f"exit {end.code}"] += 1
        wrong += [f"{index} {label}: {fault}" for fault in faults]
        control += [label] if CONTROL.search(end.said) else []
        worst = {"seconds": max(worst["seconds"], round(end.seconds, 2)), "bytes": max(worst["bytes"], used)}
    return {
        "trials": len(chosen),
        "counts": dict(sum(ends.values(), Counter())),
        "tracebacks": sum("traceback" in w for w in wrong),
        "wrong": wrong,
        "control characters": control,
        "worst": worst,
        "commands": {command: dict(count) for command, count in sorted(ends.items())},
    }


def trial(here: Standing, case: Case) -> tuple[zoo.End, list[str], int]:
    """Runs one command against one store; how it ended, what was wrong, the memory it took."""
    canary, note = here.root / "canary", here.root / "peak"
    shutil.rmtree(canary, ignore_errors=True)
    shutil.rmtree(here.root / "cache", ignore_errors=True)
    (canary / "folder").mkdir(parents=True)
    for name in ("keep.txt", "folder/thesis.tex", "folder/spec.json"):
        (canary / name).write_text(name)
    allowed: tuple[int, ...] = (0, 2, 3, 75)
    if isinstance(case, str):
        build, allowed = OTHERS[case]
        work = build(here)
    else:
        store = here.copy()
        case[0].set(here.path(store, case[0].where), canary)
        work = COMMANDS[case[1]](here, store, case[0].where)
    before = held(canary)
    note.write_text("0")
    note.chmod(0o666)
    end = zoo.forked(partial(_watched, work, note), limit=2 * SECONDS)
    used, after = int(note.read_text() or 0), held(canary)
    faults = [] if end.clean else [f"traceback or exit {end.code}: {end.said[-1500:]}"]
    faults += [f"exit {end.code}, not {allowed}: {end.said[-500:]}"] if end.clean and end.code not in allowed else []
    faults += [f"took {end.seconds:.1f} s: {end.said[-300:]}"] if end.seconds > SECONDS else []
    faults += [f"took {used >> 20} MB"] if used > BYTES else []
    changed = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    faults += [f"outside, {sorted(changed)[:4]} changed (exit {end.code}: {end.said[-300:]})"] if changed else []
    return end, faults, used


def _watched(work: Work, note: Path) -> int | None:
    """Takes down how much memory the work took at most; where it asks for absurd amounts, it gets none."""
    most = _status("VmSize") + 4 * BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    Path("/proc/self/clear_refs").write_text("5")
    began = _status("VmRSS")
    with note.open("w") as file:
        try:
            return work()
        finally:
            file.write(str(max(0, _status("VmHWM") - began)))


def _status(key: str) -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{key}:")[1].split()[0]) << 10


def held(folder: Path) -> dict[str, Any]:  # Any: JSON
    """What a folder holds, entry by entry."""
    found: dict[str, Any] = {}
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            mode = path.lstat().st_mode
            plain = stat.S_ISREG(mode) and path.lstat().st_size < 1 << 30
            what = digest(path.read_bytes()) if plain else str(path.readlink()) if path.is_symlink() else 0
            found[str(path.relative_to(folder))] = [mode, what]
    return found


def listed(seed: int) -> str:
    """All combinations, as JSON."""
    return json.dumps([c if isinstance(c, str) else [c[0].name, c[1]] for c in cases(seed)])
