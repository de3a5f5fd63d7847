"""Damage to work that was killed half-way: asked again, it ends bit-equal, or says what it lost."""

import os
import shutil
from functools import partial
from pathlib import Path
from random import Random

from embprobe.store import Store, disk
from tests.torture import zoo
from tests.torture.standing import Standing, proper, told_by
from tests.torture.wounds import CHANGES, LEDGER, Names, changed, files_of, kind_of

STEPS = (3, 5, 8, 12, 17, 24)  # files put in their places before the kill
MOST = ("ledger", "log", "file")

Case = tuple[str, str, str, int]  # the artefact, what is damaged, how, a seed


def cases(names: list[str], seed: int) -> list[Case]:
    """Every kind of damage to the ledger, the log and other files of every kind of artefact, in a random order."""
    rng = Random(seed)
    kinds = {"ledger": [*CHANGES, *LEDGER], "log": [*CHANGES, "high byte"], "file": [*CHANGES, "deleted"]}
    found = [(name, of, kind, rng.getrandbits(32)) for name in names for of in MOST for kind in kinds[of]]
    rng.shuffle(found)
    return found


def trial(here: Standing, name: str, of: str, kind: str, seed: int) -> tuple[list[str], list[str]]:
    """Kills the work on an artefact, damages what there is of it, and asks for it again."""
    rng, store = Random(seed), here.copy()
    path = here.path(store, name)
    shutil.rmtree(path)
    steps = rng.choice(STEPS)
    while not path.exists() or (path / "manifest.json").exists():
        shutil.rmtree(path, ignore_errors=True)
        steps -= 1
        zoo.forked(partial(_killed, store, here.names, name, steps))
    hurt = _hurt(path, of, kind, rng)
    if hurt is None:
        return ["unfinished: nothing there"], []
    end = zoo.forked(partial(_ask, store, here.names, name))
    faults = proper(end, f"{name} continued")
    verdict = "unfinished: bit-equal"
    if end.code == 3 and "can't be made again alone" in end.said:
        verdict = "unfinished: told"
        if not ("milestones/" in hurt or "snapshots" in hurt or kind in LEDGER or of == "ledger"):
            faults.append(f"{hurt} could be made again: {end.said[-300:]}")
        faults += proper(zoo.forked(zoo.command("rm", "--yes", "--recursive", path, "--store", store.root)), "rm")
        store = here.copy("copy")
        shutil.rmtree(path)
        end = zoo.forked(partial(_ask, store, here.names, name))
    if end.code:
        return ["unfinished: failed"], [*faults, f"exit {end.code} after {steps} steps, {hurt}: {end.said[-1500:]}"]
    if "continuing from the milestone" in end.said:  # its checkpoint was lost, and it says that it may differ
        end = zoo.forked(zoo.command("verify", "--store", store.root))
        return ["unfinished: told, from a milestone"], faults + ([end.said[-300:]] if end.code else [])
    now = told_by(store.root)
    differ = sorted(k for k in {**now, **here.content} if now.get(k) != here.content.get(k))
    faults += [f"after {steps} steps and {hurt}, these differ: {differ[:4]}"] if differ else []
    end = zoo.forked(zoo.command("verify", "--store", store.root))
    return [verdict], faults + ([f"verify after: {end.said[-300:]}"] if end.code else [])


def _hurt(path: Path, of: str, kind: str, rng: Random) -> str | None:
    """Damages a file of unfinished work; its name."""
    if of == "file":
        names = [n for n in sorted(files_of(path)) if n not in (".lock", "checksums.xxh128", "log.jsonl")]
    else:
        names = [{"ledger": "checksums.xxh128", "log": "log.jsonl"}[of]]
    kinds = sorted({kind_of(n) for n in names})
    among = rng.choice(kinds) if kinds else ""
    names = [n for n in names if kind_of(n) == among]
    name = rng.choice(names) if names else ""
    if not name or not (path / name).exists():
        return None
    data = (path / name).read_bytes()
    (path / name).unlink()
    if kind != "deleted":
        (path / name).write_bytes(changed(kind, data, rng) if data else b"x")
    return name


def _killed(store: Store, names: Names, name: str, steps: int) -> int:
    """Ends the process once so many files are in their places."""
    real, left = disk.rename, [steps]

    def rename(path: Path, target: Path) -> None:
        real(path, target)
        left[0] -= 1
        if left[0] <= 0:
            os._exit(9)

    disk.rename = rename
    return _ask(store, names, name)


def _ask(store: Store, names: Names, name: str) -> int:
    zoo.make(zoo.STAGES[name](zoo.artefacts_in(store, names)), store)
    return 0
