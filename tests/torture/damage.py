"""A study of damage: every wound must be named, told by all who read, and mended bit by bit or kept and told."""

import json
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from embprobe.store import Artefact, Store, digest
from tests import tiny
from tests.torture import unfinished, zoo
from tests.torture.standing import Standing, proper, standing, told_by
from tests.torture.wounds import STAYS, Names, Wound, files_of, inflict, wounds

UNNAMED = {"manifest.xxh128": "manifest.json"}  # either of the two is named: no one can say which of them it was
LISTS = ("checksums.xxh128", "manifest.json", "manifest.xxh128")  # what is damaged beside these can't always be told
MILESTONE = re.compile(r"milestones/|snapshots|log\.jsonl")


def study(root: Path, trials: int, seed: int) -> dict[str, Any]:  # Any: JSON
    """Damages copies of the zoo; counts of what came of it by kind, and everything that went wrong."""
    here = standing(root)
    counts: dict[str, Counter[str]] = {}
    wrong: list[str] = []
    chosen = cases(here, seed)[:trials]
    for index, case in enumerate(chosen):
        verdicts, faults = case_of(here, case, Random(seed + index))
        counts.setdefault(case[0].label if isinstance(case[0], Wound) else case[0], Counter()).update(verdicts)
        wrong += [f"{index} {case}: {fault}" for fault in faults]
    total: Counter[str] = sum(counts.values(), Counter())
    return {
        "trials": len(chosen),
        "counts": dict(total),
        "tracebacks": sum("traceback" in w for w in wrong),
        "wrong": wrong,
        "kinds": {kind: dict(count) for kind, count in sorted(counts.items())},
    }


Case = tuple[Any, ...]  # Any: wounds, or the name of a case of another kind and what it is about


def cases(here: Standing, seed: int) -> list[Case]:
    """All trials: one wound of each kind, sources gone or changed, then in turn 4 wounds, 2 at once, unfinished work."""
    rng = Random(seed)
    single = [w for w in wounds(here.store, here.names, seed) if w.of != ".lock"]
    kinds = len({w.label for w in single})
    made = zoo.artefacts_in(here.store, here.names)
    lineage = {w: [n for n, a in made.items() if n != w and a in list(made[w].lineage())] for w in made}
    plain = {where: [w for w in single if w.where == where and w.other is None] for where in made}
    pairs: list[Case] = []
    for one in [w for w in single if w.of not in ("artefact", *STAYS)]:
        above = lineage[one.where]
        where = rng.choice(above) if above and rng.random() < 0.5 else one.where
        like = [w for w in plain[where] if w.name != one.name]
        if one.other is None and like:
            pairs.append((one, rng.choice(like)))
    rest: list[Case] = [(w,) for w in single[kinds:]]
    sources: list[Case] = [("source", how) for how in ("gone", "changed", "one file gone")]
    begun: list[Case] = [("unfinished", *case) for case in unfinished.cases(list(zoo.STAGES), seed)]
    mixed = [case for six in zip(*[iter(rest)] * 4, pairs, begun, strict=False) for case in six]
    return [*((w,) for w in single[:kinds]), *sources, *mixed]


def case_of(here: Standing, case: Case, rng: Random) -> tuple[list[str], list[str]]:
    """What came of a trial, and what was wrong about it."""
    if case[0] == "unfinished":
        return unfinished.trial(here, *case[1:])
    if case[0] == "source":
        return sourceless(here, case[1])
    return trial(here, case, rng)


# ---- a trial of wounds


def trial(here: Standing, case: Sequence[Wound], rng: Random) -> tuple[list[str], list[str]]:
    """Inflicts wounds on a copy; reads it, verifies it, repairs it."""
    faults: list[str] = []
    store = here.copy()
    done = [inflict(wound, store, here.names) for wound in case]
    if not any(done):
        return ["same bytes"], []
    wounded = zoo.content(store.root)
    wounded |= {str(p.relative_to(store.root)): digest(p.read_bytes()) for p in store.root.glob("*/*/log.jsonl")}
    faults += read(here, case[0], rng)
    end = zoo.forked(zoo.command("verify", "--json", "--store", store.root))
    faults += proper(end, "verify")
    verdicts = ["named" if end.code == 3 else "not named"]
    damaged = damaged_in(end.said)
    blind = {w.where for w in case if w.of in LISTS and len(case) > 1}
    blind |= {where for w in case if w.of in STAYS and w.other for where in (w.where, w.other[0])}
    faults += [
        f"verify does not name {w.where} {w.name}: {end.said[-300:]}"
        for w in case
        if not named(here, store, w, damaged, blind)
    ]
    end = zoo.forked(zoo.command("verify", "--repair", "--json", "--store", store.root))
    faults += proper(end, "repair")
    if end.code == 0:
        return [*verdicts, "repaired bit-equal"], faults + equal(here, store, "repair", case)
    kept = {
        str(Path(path, name).relative_to(store.root)) for path, own in _json(end.said, "kept").items() for name in own
    }
    if not (blind or any(w.alone or w.of == "artefact" for w in case)) or not kept:
        return [*verdicts, "not repaired"], [*faults, f"repair exits {end.code}: {end.said[-500:]}"]
    for name in kept:
        before, after = wounded.get(name), store.root / name
        if before is not None and (not after.exists() or digest(after.read_bytes()) != before):
            faults.append(f"repair lost or changed {name}, which it says it keeps")
    if case[0].of == "artefact" or questionless(case):
        return [*verdicts, "kept and told"], faults
    lost = {"weights", "milestone"} <= {w.of for w in case}  # from an earlier milestone they would be others
    known = re.compile(f"{MILESTONE.pattern}|weights") if lost else MILESTONE
    faults += [f"repair kept {name}" for name in kept if not blind and not known.search(name)]
    end = zoo.forked(zoo.command("verify", "--repair", "--anew", "--store", store.root))
    faults += proper(end, "anew")
    if end.code == 3 and blind:  # for files of others, which stay
        found = equal(here, store, "anew", case, strangers=True)
        return [*verdicts, "kept and told", "made anew bit-equal beside files of others"], faults + found
    if end.code != 0:
        return [*verdicts, "kept and told", "not made anew"], [*faults, f"anew exits {end.code}: {end.said[-500:]}"]
    return [*verdicts, "kept and told", "made anew bit-equal"], faults + equal(here, store, "anew", case)


def _json(said: str, key: str) -> dict[str, list[str]]:
    """A value of the JSON object in what a command said."""
    try:
        return dict(
            json.JSONDecoder().raw_decode(said[said.index("\n{\n" if not said.startswith("{") else "{") :].lstrip())[0][
                key
            ]
        )
    except ValueError:
        return {}


def questionless(case: Sequence[Wound]) -> bool:
    """Whether both files that tell what an artefact was asked for are wounded: no one can make it again then."""
    return any(w.of == "spec.json" and v.where == w.where and v.of in LISTS[1:] for w in case for v in case)


def damaged_in(said: str) -> dict[str, list[str]]:
    return _json(said, "damaged")


def named(here: Standing, store: Store, wound: Wound, damaged: dict[str, list[str]], blind: set[str]) -> bool:
    """Whether a verdict names what was wounded, or what it held; of an artefact whose own lists are, any file will do."""
    places = [(wound.where, wound.name), *([wound.other] if wound.other else [])]
    for where, name in places:
        own = damaged.get(str(here.path(store, where)), [])
        meant = (name, UNNAMED.get(name, name))
        if not any(n in meant or not name or where in blind or n.startswith(f"{name}/") for n in own):
            return False
    return True


def equal(here: Standing, store: Store, what: str, case: Sequence[Wound], *, strangers: bool = False) -> list[str]:
    """What differs in a repaired store from the undamaged one, by bytes, by another verify and by plain zarr."""
    now = told_by(store.root)
    meant = here.content if strangers else {**now, **here.content}
    differ = sorted(k for k in meant if now.get(k) != here.content.get(k))
    if what == "anew" or any(w.of.startswith("manifest") for w in case):  # it tells another time, and a page of it too
        page = "/".join(here.names["report"])
        differ = [k for k in differ if k not in (f"{page}/{name}" for name in ("report.html", *LISTS))]
    faults = [f"after {what}, these differ: {differ[:4]}"] if differ else []
    faults += proper(end := zoo.forked(zoo.command("verify", "--store", store.root)), "verify after")
    faults += [f"verify after {what}: {end.said[-300:]}"] if end.code else []
    read = zoo.forked(partial(by_zarr, store))
    return faults + ([f"plain zarr after {what}: {read.said[-300:]}"] if read.code else [])


def by_zarr(store: Store) -> int:
    """Reads every array as others would, and compares it with what embprobe reads."""
    import numpy as np
    import zarr

    for path in (p for p in store.root.glob("*/*/data.zarr") if not p.parent.is_symlink()):
        artefact = Artefact(store.root, path.parent.parent.name, path.parent.name)
        for name, array in zarr.open_group(path, mode="r").arrays():
            if artefact.begun_array(name):  # else it is another's, left by a swap
                np.testing.assert_array_equal(np.asarray(array[:]), artefact.array(name)[:])
    return 0


def read(here: Standing, wound: Wound, rng: Random) -> list[str]:
    """What was wrong about those who read a wounded artefact: `ls`, `show`, `plan`, and a stage that takes it as input."""
    faults: list[str] = []
    store = here.copy("read")
    inflict(wound, store, here.names)
    recipe = here.root / "plan.yaml"
    recipe.write_text("steps:\n- ingest: {source: planted, count: 40, size: 16, val_share: 0.5}\n")
    for words in (["ls"], ["ls", "--json"], ["show", here.names[wound.where][1]], ["plan", recipe]):
        faults += proper(zoo.forked(zoo.command(*words, "--store", store.root)), words[0])
    path = here.path(store, wound.where)
    end = zoo.forked(zoo.command("show", "--json", path, "--store", store.root))
    faults += proper(end, "show --json")
    truth = json.loads((here.path(here.store, wound.where) / "manifest.json").read_bytes())
    shown = json.loads(end.said) if end.code == 0 else {}
    if shown.get("complete") and {**shown, "path": "", "complete": True} != {**truth, "path": "", "complete": True}:
        faults.append("show --json tells something else, exit 0")
    if not here.users[wound.where]:
        return faults
    user = rng.choice(here.users[wound.where])
    for gone in (user, *(("measure",) if user == "evaluate" else ())):
        shutil.rmtree(here.path(store, gone), ignore_errors=True)
    end = zoo.forked(partial(_ask, store, here.names, user))
    faults += proper(end, f"{user} of a wounded {wound.where}")
    found = here.path(store, user)
    if end.code == 0 and zoo.content(found) != zoo.content(here.path(here.store, user)):
        faults.append(f"{user} of a wounded {wound.where} holds something else, exit 0")
    if end.code and (found / "manifest.json").exists():
        faults.append(f"{user} of a wounded {wound.where} is finished, exit {end.code}")
    return faults


def _ask(store: Store, names: Names, name: str) -> int:
    zoo.make(zoo.STAGES[name](zoo.artefacts_in(store, names)), store)
    return 0


def sourceless(here: Standing, how: str) -> tuple[list[str], list[str]]:
    """A damaged data set whose pictures are gone or changed is kept and told; others are repaired all the same."""
    store, pictures, away = here.copy(), here.root / "pictures", here.root / "away"
    own = here.path(store, "pictures") / "data.zarr/images/c/0/0/0/0"
    own.write_bytes(b"rot")
    other = here.path(store, "probe") / "probe.json"
    other.unlink()
    shutil.copytree(pictures, away)
    try:
        first = sorted(files_of(pictures))[0]
        if how == "gone":
            shutil.rmtree(pictures)
        elif how == "changed":
            tiny.picture(pictures / first, 4711)
        else:
            (pictures / first).unlink()
        end = zoo.forked(zoo.command("verify", "--repair", "--store", store.root))
    finally:
        shutil.rmtree(pictures, ignore_errors=True)
        away.rename(pictures)
    faults = proper(end, "repair")
    faults += [f"exits {end.code}: {end.said[-300:]}"] if end.code != 3 else []
    faults += ["the damaged chunk was changed"] if own.read_bytes() != b"rot" else []
    faults += ["the other artefact was not repaired"] if not other.exists() else []
    return ["kept and told"], faults
