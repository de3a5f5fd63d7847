"""What is in the store: lists, plans, checks and removals, for people and as JSON."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from embprobe import console
from embprobe.errors import DamagedError, UserError
from embprobe.stage import Stage
from embprobe.stages import STAGES
from embprobe.store import Artefact, Json, Store

# ---- ls and show


def show_list(store: Store, as_json: bool) -> None:
    """One line an artefact, oldest first."""
    names: dict[str, list[str]] = {}
    for name, artefact in store.names():
        names.setdefault(artefact.fingerprint, []).append(name)
    artefacts = store.artefacts()
    if as_json:
        console.result_json(
            [
                {
                    "stage": a.stage,
                    "fingerprint": a.fingerprint,
                    "complete": a.complete,
                    "path": str(a.path),
                    "names": names.get(a.fingerprint, []),
                }
                for a in artefacts
            ]
        )
        return
    rows = []
    for a in artefacts:
        state, taken, held = "unfinished", "", ""
        if a.complete:
            state = str(a.manifest["finished"])[:16].replace("T", " ")
            taken, held = console.duration(a.manifest["seconds"]), console.size(a.manifest["bytes"])
        rows.append([a.stage, a.short, state, taken, held, " ".join(names.get(a.fingerprint, [])), gist(a)])
    if rows:
        console.print_table(["stage", "artefact", "finished", "time", "size", "name", "what"], rows)
    else:
        console.say(f"{store.root} is empty; start with `embprobe ingest --source FOLDER` or `embprobe demo`")


def gist(artefact: Artefact) -> str:
    """The options that tell an artefact from its like, in a few words."""
    keys = ("source", "objective", "encoder", "kind", "preset", "sampler", "steps", "count", "seed")
    options, inputs, parts = artefact.options, artefact.inputs, []
    for key in keys:
        value = options.get(key)
        if value is None or (key == "count" and artefact.stage == "ingest" and options.get("source") != "planted"):
            continue
        text = str(value)
        text = inputs[key].options.get("objective", text[:10]) if key in inputs else text.rsplit("/", 1)[-1]
        parts.append(f"{key} {text}")
    return ", ".join(parts[:4])


def show_artefact(artefact: Artefact, as_json: bool) -> None:
    """Everything about one artefact."""
    if as_json:
        known: Json = artefact.manifest if artefact.complete else {"spec": artefact.spec, "options": artefact.options}
        console.result_json({"path": str(artefact.path), "complete": artefact.complete, **known})
        return
    console.result(f"{artefact.stage} {artefact.fingerprint}\n{artefact.path}")
    console.result(
        "made from  " + (", ".join(f"{k} {a.short}" for k, a in artefact.inputs.items()) or "nothing in the store")
    )
    console.result("options    " + "  ".join(f"{k}={v}" for k, v in artefact.options.items() if v is not None))
    if not artefact.complete:
        console.result("unfinished; run its command again to continue")
        return
    facts = artefact.manifest
    console.result(
        f"finished   {facts['finished']} on {facts['host']}, {console.duration(facts['seconds'])}, "
        f"peak {console.size(facts['peak_bytes'])}, {facts['files']} files, {console.size(facts['bytes'])}"
    )
    console.result("versions   " + "  ".join(f"{k} {v}" for k, v in facts["versions"].items() if v))
    for event in facts.get("events", []):
        console.result("event      " + "  ".join(f"{k} {_short(v)}" for k, v in event.items()))
    for key, value in facts["metrics"].items():
        console.result(f"{key:<24} {_short(value)}")


def _short(value: Json) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, list) and len(value) > 8:
        return f"[{', '.join(_short(v) for v in value[:8])}, … {len(value)} in all]"
    if isinstance(value, list):
        return f"[{', '.join(_short(v) for v in value)}]"
    if isinstance(value, dict):
        return ", ".join(f"{k} {_short(v)}" for k, v in value.items())
    return str(value)


def show_tables(artefact: Artefact) -> None:
    """The comparison table of a report, on stderr."""
    if artefact.stage == "report" and artefact.has("table.json"):
        table = artefact.read_json("table.json")
        console.print_table(table["headers"], table["rows"], to_stderr=True)


# ---- encoders


def show_encoders(as_json: bool) -> None:
    """Every encoder that has a name, and each family of names."""
    from embprobe.encoders.names import known_encoders

    rows = known_encoders()
    if as_json:
        console.result_json([asdict(row) for row in rows])
        return
    cells = []
    for row in rows:
        size, grid, width = (str(n) if n else "–" for n in (row.size, row.grid, row.width))
        grid = f"{grid}×{grid}" if row.grid else grid
        here = {True: "on this machine", False: "to fetch", None: "–"}[row.here]
        cells.append([row.name, row.source, size, grid, width, row.licence or "–", here])
    console.print_table(["encoder", "source", "size", "grid", "width", "licence of the weights", "weights"], cells)


# ---- plan


@dataclass(frozen=True)
class Planned:
    """What `run` would do with a step."""

    step: str
    stage: str
    artefact: str
    state: str
    why: str
    seconds: float | None
    bytes: int | None


def plan_step(label: str, stage: Stage, out: Artefact, store: Store) -> Planned:
    """Cached, or will run and why; time and disk from the nearest artefact of the same stage."""
    if out.complete:
        return Planned(label, out.stage, out.short, "cached", "", 0.0, out.manifest["bytes"])
    like = _nearest(out, store)
    seconds = size = None
    if like is not None:
        done, todo = like.manifest.get("work") or 0, stage.work()
        share = todo / done if done and todo else 1.0
        seconds, size = like.manifest["seconds"] * share, int(like.manifest["bytes"])
    size = stage.disk() or size
    waiting = list(dict.fromkeys(k.split(".")[0] for k, a in out.inputs.items() if not a.complete))
    if out.begun:
        return Planned(label, out.stage, out.short, "will continue", "stopped before its end", seconds, size)
    why = f"{', '.join(waiting)} will be made first" if waiting else _difference(out, like)
    return Planned(label, out.stage, out.short, "will run", why, seconds, size)


def _nearest(out: Artefact, store: Store) -> Artefact | None:
    """The complete artefact of the same stage whose question differs least."""
    like = [a for a in store.artefacts() if a.stage == out.stage and a.complete]
    return min(like, key=lambda a: len(_changed(a.spec, out.spec)), default=None)


def _changed(before: dict[str, Json], now: dict[str, Json]) -> list[str]:
    return [k for k in {**before, **now} if before.get(k) != now.get(k)]


def _difference(out: Artefact, like: Artefact | None) -> str:
    if like is None:
        return "new"
    before, now = like.spec, out.spec
    named = [f"{k} {before.get(k)} → {now.get(k)}" for k in _changed(before, now)[:3]]
    return f"unlike {like.short}: " + ", ".join(n if len(n) < 60 else n.split(" ")[0] for n in named)


def show_plan(rows: Sequence[Planned], as_json: bool) -> None:
    """The plan as a table with totals."""
    if as_json:
        console.result_json([asdict(r) for r in rows])
        return
    cells = [
        [
            r.step, r.stage, r.artefact, r.state,
            "" if r.state == "cached" else "?" if r.seconds is None else console.duration(r.seconds),
            "?" if r.bytes is None else console.size(r.bytes), r.why,
        ]
        for r in rows
    ]  # fmt: skip
    console.print_table(["step", "stage", "artefact", "state", "time", "disk", "why"], cells)
    todo = [r for r in rows if r.state != "cached"]
    known = sum(r.seconds or 0 for r in todo)
    unknown = sum(r.seconds is None for r in todo)
    console.result(
        f"{len(rows) - len(todo)} cached, {len(todo)} to make"
        + (f", about {console.duration(known)}" if known else "")
        + (f" and {unknown} of unknown length" if unknown else "")
        + f"; {console.size(shutil.disk_usage('.').free)} free here"
    )


# ---- verify and rm


def verify(artefacts: Sequence[Artefact], repair: bool, as_json: bool) -> None:
    """Checks every file; with `repair` makes the damaged ones again. Raises DamagedError for what stays damaged."""
    damaged: dict[str, list[str]] = {}
    checked = 0
    for artefact in artefacts:
        bad = artefact.damage() if artefact.complete else []
        checked += artefact.complete
        damaged |= {str(artefact.path): bad} if bad else {}
        for name in bad:
            console.say(f"{artefact.stage} {artefact.short}: {artefact.describe(name)} is damaged")
        if bad and repair:
            _repair(artefact, bad)
    if as_json:
        console.result_json({"checked": checked, "damaged": damaged, "repaired": repair and bool(damaged)})
    if damaged and not repair:
        count = sum(map(len, damaged.values()))
        raise DamagedError(
            f"{count} damaged file{'s' * (count > 1)}; `embprobe verify --repair` makes just these again"
        )
    if not as_json:
        console.result(
            f"{checked} artefact{'s' * (checked != 1)} whole" + (f", {len(damaged)} repaired" if damaged else "")
        )


def _repair(artefact: Artefact, damaged: list[str]) -> None:
    from embprobe.making import repaired

    made, differ = repaired(artefact, STAGES[artefact.stage], damaged)
    for name in damaged:
        same = "differs from the first" if name in differ else "made again"
        console.say(f"{artefact.stage} {artefact.short}: {made.describe(name)} {same}")


def remove_artefacts(store: Store, artefacts: Sequence[Artefact], agree: Callable[[str], bool]) -> None:
    """Removes artefacts that no other one needs. Raises UserError naming those that do."""
    chosen = set(artefacts)
    for other in store.artefacts():
        if other not in chosen:
            for needed in chosen & set(other.lineage()):
                raise UserError(
                    f"{other.stage} {other.short} was made from {needed.stage} {needed.short}; remove that first, or both"
                )
    total = sum(f.stat().st_size for a in chosen for f in a.path.rglob("*") if f.is_file())
    listed = ", ".join(f"{a.stage} {a.short}" for a in artefacts)
    if not agree(f"remove {listed} ({console.size(total)})?"):
        console.say("nothing removed")
        return
    for artefact in chosen:
        store.remove(artefact)
    console.result(f"removed {listed}")
