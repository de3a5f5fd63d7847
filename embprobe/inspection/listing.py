"""What is in the store: lists of artefacts, of a stage or a data set, as rows or as a tree; and the encoders that have names."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from embprobe import console
from embprobe.errors import DamagedError, UserError, did_you_mean
from embprobe.running.forecast import how_far
from embprobe.running.naming import Naming, lineage_of
from embprobe.stages import STAGES
from embprobe.store import Artefact, Store

PARTS = (
    "features",
    "measure",
    "read",
    "ceiling",
)  # which other stages ask for by themselves; listed when they are asked for
HEADERS = ("stage", "artefact", "name", "from", "what", "finished", "took", "size")
WRAPPING = ("name", "from", "what")

# ---- ls


def show_list(store: Store, stages: Sequence[str], of: Sequence[str], *, tree: bool, all: bool, as_json: bool) -> None:
    """A line an artefact, oldest first, or below what it was made from; of some stages, and of what was made from some."""
    for word in stages:
        if word not in STAGES:
            hint = f"; `embprobe ls --of {word}` lists what was made from it" if store.lookup(word) else ""
            raise UserError(f"there is no stage {word!r}{did_you_mean(word, STAGES)}; known: {', '.join(STAGES)}{hint}")
    roots = {store[word] for word in of}
    every = store.artefacts()
    chosen = [a for a in every if (not stages or a.stage in stages) and (not roots or roots & set(lineage_of(a)))]
    if as_json:
        console.result_json(_as_json(store, chosen))
        return
    shown = [a for a in chosen if all or stages or a.stage not in PARTS]
    if not every:
        console.say(f"{store.root} is empty; start with `embprobe ingest --source FOLDER` or `embprobe demo`")
        return
    naming = Naming(store, every)
    placed = in_tree(naming, shown) if tree else [(0, None, artefact) for artefact in shown]
    rows = [_row(naming, artefact, depth, above) for depth, above, artefact in placed]
    filled = [i for i, header in enumerate(HEADERS) if header not in ("name", "from") or any(row[i] for row in rows)]
    cells = [[row[i] for i in filled] for row in rows]
    console.print_table([HEADERS[i] for i in filled], cells, wrapping=WRAPPING)
    hidden = Counter(a.stage for a in chosen if a not in set(shown))
    if hidden and not stages:
        counts = " and ".join(f"{count} {stage}" for stage, count in sorted(hidden.items()))
        console.say(f"and {counts}, which evaluations and probes were made from (--all lists them)")


def _as_json(store: Store, artefacts: Sequence[Artefact]) -> list[dict[str, object]]:
    names: dict[str, list[str]] = {}
    for name, artefact in store.names():
        names.setdefault(artefact.fingerprint, []).append(name)
    return [
        {
            "stage": a.stage,
            "fingerprint": a.fingerprint,
            "complete": a.complete,
            "path": str(a.path),
            "names": names.get(a.fingerprint, []),
        }
        for a in artefacts
    ]


def _row(naming: Naming, artefact: Artefact, depth: int, above: Artefact | None) -> list[str]:
    head = ["  " * depth + artefact.stage, artefact.short, " ".join(naming.aliases.get(artefact.fingerprint, []))]
    try:
        parents = [naming.call(a) for a in naming.parents(artefact) if a != above]
        shown = ", ".join(parents[:3]) + (f" and {len(parents) - 3} more" if len(parents) > 3 else "")
        return [*head, shown, naming.gist(artefact), *state(artefact)]
    except DamagedError as error:
        return [*head, "", str(error).split(";")[0], "damaged", "", ""]


def state(artefact: Artefact) -> list[str]:
    """When it was finished or how far it is, how long that took, and how large it is."""
    if not artefact.complete:
        if not artefact.folder.sums:
            return ["only asked", "", ""]
        done, total = how_far(artefact)
        return [f"{done}/{total}" if total else "unfinished", "", ""]
    facts = artefact.manifest
    return [when(facts["finished"]), console.duration(facts["seconds"]), console.size(facts["bytes"])]


def when(stamp: str) -> str:
    """A moment in the machine's own time: the hour of today, the day of this year, or the date."""
    try:
        moment = time.localtime(time.mktime(time.strptime(stamp, "%Y-%m-%dT%H:%M:%SZ")) - time.timezone)
    except ValueError:
        return stamp
    now = time.localtime()
    if moment[:3] == now[:3]:
        return time.strftime("today %H:%M", moment)
    return time.strftime("%d %b %H:%M" if moment.tm_year == now.tm_year else "%d %b %Y", moment)


def in_tree(naming: Naming, artefacts: Sequence[Artefact]) -> list[tuple[int, Artefact | None, Artefact]]:
    """Each below one that it was made from: its depth, that one, itself; what rests on several branches stands alone."""
    shown = set(artefacts)
    below: dict[Artefact | None, list[Artefact]] = {}
    for artefact in artefacts:
        below.setdefault(_above(naming, artefact, shown), []).append(artefact)
    placed: list[tuple[int, Artefact | None, Artefact]] = []

    def place(artefact: Artefact, depth: int, above: Artefact | None) -> None:
        placed.append((depth, above, artefact))
        for child in below.get(artefact, ()):
            place(child, depth + 1, artefact)

    for root in below.get(None, ()):
        place(root, 0, None)
    return placed


def _above(naming: Naming, artefact: Artefact, shown: set[Artefact]) -> Artefact | None:
    """The artefact that it is listed below: its first input that is shown, or what that was made from."""
    try:
        several = any(key.endswith(".1") for key in artefact.inputs)
        first = None if several and artefact.stage == "report" else next(iter(artefact.inputs.values()), None)
    except DamagedError:
        return None
    while first is not None and first not in shown:
        above = [a for a in lineage_of(first)[1:] if a in shown]
        first = above[0] if above else None
    return first


# ---- encoders


def show_encoders(as_json: bool) -> None:
    """Every encoder that has a name, and each family of names."""
    from embprobe.encoders.known import known_encoders

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
    headers = ("encoder", "source", "size", "grid", "width", "licence of the weights", "weights")
    console.print_table(headers, cells, wrapping=("source", "licence of the weights", "weights"))
