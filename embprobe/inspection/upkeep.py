"""Keeping a store whole and tidy: verify and mend, remove, clear away."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from embprobe import console, signals
from embprobe.errors import DamagedError, EmbprobeError, Interrupted, UserError
from embprobe.stages import STAGES
from embprobe.store import Artefact, Store, mending, removal

Agree = Callable[[str], bool]


# ---- verify


@dataclass
class Verdict:
    """What a check of several artefacts found."""

    whole: int = 0
    unfinished: int = 0
    damaged: dict[str, list[str]] = field(default_factory=dict)  # names by artefact
    mended: list[str] = field(default_factory=list)
    kept: dict[str, list[str]] = field(default_factory=dict)  # still damaged


def verify(artefacts: Sequence[Artefact], repair: bool, as_json: bool, *, anew: bool = False) -> None:
    """Checks every file; with `repair` makes the damaged ones again. Raises DamagedError for what stays damaged."""
    verdict = Verdict()
    for artefact in by_lineage(artefacts):
        signals.check()
        if not mending.is_made(artefact):
            verdict.unfinished += 1
            continue
        bad = mending.damage(artefact)
        for name in bad:
            console.say(f"{artefact.stage} {artefact.short}: {mending.describe(artefact, name)} is damaged")
        if not bad:
            verdict.whole += 1
            continue
        verdict.damaged[str(artefact.path)] = bad
        kept = _repair(artefact, anew) if repair else bad
        if kept:
            verdict.kept[str(artefact.path)] = kept
        else:
            verdict.mended.append(str(artefact.path))
    _tell(verdict, repair, as_json)


def _tell(verdict: Verdict, repair: bool, as_json: bool) -> None:
    checked = verdict.whole + len(verdict.damaged)
    if as_json:
        facts = {"checked": checked, "unfinished": verdict.unfinished, "damaged": verdict.damaged}
        console.result_json({**facts, "repaired": verdict.mended, "kept": verdict.kept})
    else:
        whole = verdict.whole + len(verdict.mended)
        parts = [f"{whole} artefact{'s' * (whole != 1)} whole"]
        parts += [f"{len(verdict.mended)} repaired"] if verdict.mended else []
        parts += [f"{len(verdict.kept)} damaged"] if verdict.kept else []
        parts += [f"{verdict.unfinished} unfinished, not checked"] if verdict.unfinished else []
        console.result(", ".join(parts))
    if verdict.kept:
        count = sum(map(len, verdict.kept.values()))
        told = f"{count} damaged file{'s' * (count > 1)}"
        raise DamagedError(
            f"{told} left as they are, for the reasons above"
            if repair
            else f"{told}; `embprobe verify --repair` makes again what can be made again"
        )


def by_lineage(artefacts: Sequence[Artefact]) -> list[Artefact]:
    """The artefacts, each after those it was made from."""
    ordered: dict[Artefact, None] = {}
    known = {a: a for a in artefacts}

    def visit(artefact: Artefact, above: tuple[Artefact, ...]) -> None:
        if artefact in ordered or artefact in above:
            return
        try:
            inputs = list(artefact.inputs.values())
        except DamagedError:
            inputs = []
        for needed in inputs:
            if needed in known:
                visit(known[needed], (*above, artefact))
        ordered[artefact] = None

    for artefact in artefacts:
        visit(artefact, ())
    return list(ordered)


def _repair(artefact: Artefact, anew: bool) -> list[str]:
    """What stays damaged of an artefact after its repair; everything is said."""
    from embprobe.making import repaired

    label = f"{artefact.stage} {artefact.short}"
    try:
        if artefact.stage not in STAGES:
            raise UserError(f"there is no stage {artefact.stage}")
        mended = repaired(artefact, STAGES[artefact.stage], anew=anew)
    except Interrupted:
        raise
    except EmbprobeError as error:
        console.say(f"{label} stays as it is: {error}")
        return mending.damage(artefact)
    for name in mended.remade:
        same = "differs from the first" if name in mended.differ else "made again"
        console.say(f"{label}: {mending.describe(artefact, name)} {same}")
    why = "is nothing that this artefact makes" if anew else "can't be made again alone"
    for name in mended.kept:
        console.say(f"{label}: {mending.describe(artefact, name)} {why}, and is kept as it is")
    if mended.kept and not anew:
        console.say(f"{label}: `embprobe verify --repair --anew {artefact.path}` makes all of it again, from the start")
    return mended.kept


# ---- rm


def remove_artefacts(store: Store, artefacts: Sequence[Artefact], agree: Agree, *, recursive: bool = False) -> None:
    """Removes artefacts, those made from them first. Raises UserError where others need them, unless `recursive`."""
    chosen = list({a.path: a for a in artefacts}.values())
    for artefact in chosen:
        removal.check_removable(artefact, store)
    users = removal.dependents(chosen, removal.related(chosen, store))
    if users and not recursive:
        first = users[-1]
        elsewhere = f" (in {first.root})" if first.root != store.root else ""
        raise UserError(
            f"{len(users)} artefact{'s were' if len(users) > 1 else ' was'} made from what you chose, such as "
            f"{first.stage} {first.short}{elsewhere}; remove those first, or all with --recursive"
        )
    goes = [*users, *reversed(by_lineage(chosen))]
    for artefact in goes if recursive else ():
        console.say(
            f"{artefact.stage} {artefact.short}  {console.size(removal.size_of(artefact.path))}  {artefact.path}"
        )
    listed = ", ".join(f"{a.stage} {a.short}" for a in goes)
    total = console.size(sum(removal.size_of(a.path) for a in goes))
    if not agree(f"remove {listed} ({total})?"):
        console.say("nothing removed")
        return
    for artefact in goes:
        signals.check()
        removal.remove(artefact)
    console.result(f"removed {listed}")


# ---- gc


def clear(store: Store, agree: Agree, *, dry: bool, as_json: bool) -> None:
    """Removes litter after saying what and how much."""
    items = list(removal.litter(store))
    sizes = [item.bytes for item in items]
    if as_json:
        rows = [{"path": str(i.path), "why": i.why, "bytes": n} for i, n in zip(items, sizes, strict=True)]
        console.result_json(rows)
    elif items:
        cells = [[i.why, console.size(n), str(i.path)] for i, n in zip(items, sizes, strict=True)]
        console.print_table(["what", "size", "where"], cells)
    total = f"{len(items)} piece{'s' * (len(items) != 1)} of litter, {console.size(sum(sizes))}"
    if dry or not items:
        console.say(total if items else "no litter")
        return
    if not agree(f"remove {total}?"):
        console.say("nothing removed")
        return
    busy = 0
    for item in items:
        signals.check()
        busy += not removal.discard(item)
    console.say(f"removed {total}" + (f"; {busy} left, being worked on" if busy else ""))
