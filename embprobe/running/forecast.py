"""What a step of a recipe will come to before it is made: cached or why not, how long, and by what that is told."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial

from embprobe import console
from embprobe.errors import DamagedError, EmbprobeError
from embprobe.making import planned
from embprobe.options import build
from embprobe.running.naming import Naming
from embprobe.stage import Stage
from embprobe.stages import STAGES
from embprobe.store import Artefact, Json, Store, array_names
from embprobe.views import Latents, held_in


@dataclass(frozen=True)
class Foreseen:
    """What `run` would do with a step; `rests_on` is the artefact that time was told by."""

    step: str
    stage: str
    artefact: str
    what: str
    state: str
    why: str
    seconds: float | None
    bytes: int | None
    rests_on: str | None = None


@dataclass(frozen=True)
class Like:
    """A complete artefact of the same stage: how long it took, and for how much work."""

    artefact: Artefact
    spec: dict[str, Json]
    seconds: float
    at_work: float  # of these, where it had bars: what grows with the work
    bytes: int
    work: float

    def seconds_for(self, work: float) -> float:
        """What is no work, such as loading libraries, takes as long as it did."""
        return self.seconds - self.at_work + self.at_work * work / self.work

    def bytes_for(self, out: Artefact) -> int:
        """In proportion to the rows, where there is a row for each image."""
        rows, known = _rows(out), _rows(self.artefact)
        return self.bytes * rows // known if rows and known else self.bytes


class Forecast:
    """Times by the likeliest artefacts of a store, in proportion to the work."""

    def __init__(self, store: Store, among: Iterable[Artefact] = ()) -> None:
        self.store = store
        self.naming = Naming(store, among)
        self._likes: dict[str, list[Like]] = {}

    @cached_property
    def there(self) -> list[Artefact]:
        """All that the store holds."""
        return self.store.artefacts()

    def likes(self, stage: str) -> list[Like]:
        """What can be measured by, of a stage; read when it is first asked for."""
        if stage not in self._likes:
            self._likes[stage] = [like for a in self.there if a.stage == stage and (like := self._like(a))]
        return self._likes[stage]

    def learn(self, artefact: Artefact) -> None:
        """Takes an artefact that was just made for a measure of others."""
        known, like = self.likes(artefact.stage), self._like(artefact)
        if like is not None and like not in known:
            known.append(like)

    def _like(self, artefact: Artefact) -> Like | None:
        """A measure, if it is complete; a damaged one is none."""
        try:
            facts = artefact.manifest if artefact.complete else {}
            if facts.get("seconds"):
                work = self._work(artefact)
                seconds = float(facts["seconds"])
                at_work = min(seconds, float(facts.get("at_work") or seconds))
                return Like(artefact, artefact.spec, seconds, at_work, int(facts["bytes"]), work)
        except EmbprobeError:
            pass
        return None

    def seconds(self, stage: Stage, out: Artefact) -> tuple[float, Like] | None:
        """How long it takes with what it has made by itself, and by which artefact that is told; None if by none."""
        like, todo = self.nearest(out, measured=True), stage.work()
        if like is None or not todo:
            return None
        each = [self.seconds(q, a) for a in _derived(stage) if not a.complete and isinstance(q := a.question, Stage)]
        return like.seconds_for(todo) + sum(found[0] for found in each if found), like

    def step(self, label: str, stage: Stage, out: Artefact) -> Foreseen:
        """Cached, or will run and why; time and disk in proportion to the nearest artefact of the same stage."""
        head = (label, out.stage, out.short, self.naming.gist(out))
        try:
            return self._step(head, stage, out)
        except DamagedError as error:  # is told, and mended where it can be, when its turn comes
            return Foreseen(*head, "damaged", str(error).split(";")[0], None, None)

    def _step(self, head: tuple[str, str, str, str], stage: Stage, out: Artefact) -> Foreseen:
        if out.complete:
            return Foreseen(*head, "cached", "", 0.0, out.manifest["bytes"])
        if stage.is_put_off():
            return Foreseen(*head, "not made", "only asked for, and computed as it is needed", 0.0, 0)
        told, like = self.seconds(stage, out), self.nearest(out)
        seconds, rests = (told[0], self.naming.call(told[1].artefact)) if told else (None, None)
        size = stage.disk() or (told[1].bytes_for(out) if told else None)
        if out.begun and out.folder.sums:
            done, total = how_far(out)
            far = f"stopped at {done} of {total}" if total else "stopped before its end"
            return Foreseen(*head, "will continue", far, seconds, size, rests)
        waiting = list(dict.fromkeys(k.split(".")[0] for k, a in stage.needed().items() if not a.complete))
        why = f"{', '.join(waiting)} will be made first" if waiting else self._difference(out, like)
        return Foreseen(*head, "will run", why, seconds, size, rests)

    def nearest(self, out: Artefact, *, measured: bool = False) -> Like | None:
        """The complete artefact of the same stage whose question differs least; of those whose work is known if `measured`."""
        like = [one for one in self.likes(out.stage) if one.work or not measured]
        return min(like, key=lambda one: len(_changed(one.spec, out.spec)), default=None)

    def _work(self, artefact: Artefact) -> float:
        """How much there was to do, by today's measure; 0 where its stage can't tell."""
        if artefact.stage == "ingest":  # whose stage would list its source anew
            return float(artefact.metrics.get("count") or 0)
        if artefact.stage not in STAGES:
            return 0.0

        try:
            return build(
                STAGES[artefact.stage], artefact.options, self.store, partial(planned, store=self.store)
            ).work()
        except EmbprobeError:
            return 0.0

    def _difference(self, out: Artefact, like: Like | None) -> str:
        if like is None:
            return "new"
        before, now = like.spec, out.spec
        shown = [
            f"another {k}"
            if _is_content(before.get(k)) or _is_content(now.get(k))
            else f"{k} {before.get(k)} → {now.get(k)}"
            for k in _changed(before, now)[:3]
        ]
        return f"unlike {self.naming.call(like.artefact)}: {', '.join(shown)}"


def _derived(stage: Stage) -> list[Artefact]:
    """What the stage asks for by itself, as `evaluate` for the figures of each judge."""
    names = [f.name for f in fields(stage) if f.metadata["derived"]]
    return [artefact for key, artefact in stage.inputs().items() if key.split(".")[0] in names]


def _rows(artefact: Artefact) -> int:
    """Images that an artefact holds a row for each of, or will; 0 for what grows otherwise."""
    if artefact.stage == "compress":
        return held_in(Latents(artefact).embeddings.artefact)
    return held_in(artefact) if artefact.stage in ("ingest", "extract", "sample") else 0


def _is_content(value: Json) -> bool:
    """Whether a value of a question says nothing to people: a hash, or a list."""
    return isinstance(value, list) or (isinstance(value, str) and re.fullmatch("[0-9a-f]{32}", value) is not None)


def _changed(before: dict[str, Json], now: dict[str, Json]) -> list[str]:
    return [k for k in {**before, **now} if before.get(k) != now.get(k)]


def how_far(artefact: Artefact) -> tuple[int, int]:
    """Steps of a training, else chunks of its largest array, done and in all; 0 of 0 where nothing tells."""
    steps = artefact.options.get("steps")
    saved = [n.rsplit("_", 1)[-1].split(".")[0] for n in artefact.folder.names("checkpoints")]
    if isinstance(steps, int) and any(word.isdecimal() for word in saved):
        return max(int(word) for word in saved if word.isdecimal()), steps
    counts = []
    for name in array_names(artefact.folder):
        array = artefact.array(name)
        counts.append((array.n_chunks, len(array.missing())))
    total, missing = max(counts, default=(0, 0))
    return total - missing, total


def total_of(rows: Sequence[Foreseen]) -> str:
    """How many steps there are to make, and how long they take together."""
    todo = [r for r in rows if r.state not in ("cached", "not made")]
    known = sum(r.seconds or 0 for r in todo)
    unknown = sum(r.seconds is None for r in todo)
    return (
        f"{sum(r.state == 'cached' for r in rows)} cached, {len(todo)} to make"
        + (f", about {console.duration(known)}" if known else "")
        + (f"{' and' if known else ','} {unknown} of unknown length" if unknown else "")
    )
