"""What `run` would do with a recipe: step by step, and why."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from embprobe import console
from embprobe.stage import Stage
from embprobe.store import Artefact, Json, Store


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
    if stage.is_put_off():
        return Planned(label, out.stage, out.short, "not made", "only asked for, and computed as it is needed", 0.0, 0)
    like = _nearest(out, store)
    seconds = size = None
    if like is not None:
        done, todo = like.manifest.get("work") or 0, stage.work()
        share = todo / done if done and todo else 1.0
        seconds, size = like.manifest["seconds"] * share, int(like.manifest["bytes"])
    size = stage.disk() or size
    waiting = list(dict.fromkeys(k.split(".")[0] for k, a in stage.needed().items() if not a.complete))
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
    todo = [r for r in rows if r.state not in ("cached", "not made")]
    known = sum(r.seconds or 0 for r in todo)
    unknown = sum(r.seconds is None for r in todo)
    console.result(
        f"{sum(r.state == 'cached' for r in rows)} cached, {len(todo)} to make"
        + (f", about {console.duration(known)}" if known else "")
        + (f" and {unknown} of unknown length" if unknown else "")
        + f"; {console.size(shutil.disk_usage('.').free)} free here"
    )
