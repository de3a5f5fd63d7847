"""What is in the store: lists of artefacts and of encoders, and all about one artefact, for people and as JSON."""

from dataclasses import asdict

from embprobe import console
from embprobe.errors import DamagedError
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
        named = " ".join(names.get(a.fingerprint, []))
        try:
            rows.append([a.stage, a.short, *_state(a), named, gist(a)])
        except DamagedError as error:
            rows.append([a.stage, a.short, "damaged", "", "", named, str(error).split(";")[0]])
    if rows:
        console.print_table(["stage", "artefact", "finished", "time", "size", "name", "what"], rows)
    else:
        console.say(f"{store.root} is empty; start with `embprobe ingest --source FOLDER` or `embprobe demo`")


def _state(artefact: Artefact) -> list[str]:
    """When it was finished, how long that took, and how large it is."""
    if not artefact.complete:
        return ["unfinished" if artefact.folder.sums else "only asked", "", ""]
    facts = artefact.manifest
    return [facts["finished"][:16].replace("T", " "), console.duration(facts["seconds"]), console.size(facts["bytes"])]


def gist(artefact: Artefact) -> str:
    """The options that tell an artefact from its like, in a few words."""
    keys = ("source", "objective", "encoder", "kind", "preset", "sampler", "steps", "count", "seed")
    options, inputs, parts = artefact.options, artefact.inputs, []
    for key in keys:
        value = options.get(key)
        if value is None or (key == "count" and artefact.stage == "ingest" and options.get("source") != "planted"):
            continue
        text = str(value)
        text = _objective(inputs[key], text[:10]) if key in inputs else text.rsplit("/", 1)[-1]
        parts.append(f"{key} {text}")
    return ", ".join(parts[:4])


def _objective(encoder: Artefact, otherwise: str) -> str:
    """What an encoder was trained by; `otherwise` where it is gone."""
    try:
        return str(encoder.options.get("objective", otherwise))
    except DamagedError:
        return otherwise


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
        begun = "unfinished; run its command again to continue"
        console.result(begun if artefact.folder.sums else "only asked for, and nothing made; its command makes it")
        return
    facts = artefact.manifest
    there = f" and {console.size(gpu)} of the GPU's" if (gpu := facts.get("device_peak_bytes")) else ""
    console.result(
        f"finished   {facts['finished']} on {facts['host']}, {console.duration(facts['seconds'])}, "
        f"peak {console.size(facts['peak_bytes'])}{there}, {facts['files']} files, {console.size(facts['bytes'])}"
    )
    if "conditions" in facts:
        console.result("conditions " + "  ".join(f"{k} {v}" for k, v in facts["conditions"].items() if v is not None))
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
        table = artefact.read_json("table.json", dict)
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
