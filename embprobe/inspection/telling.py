"""All about one artefact: what it answers, from what, what it holds and measured, for people and as JSON."""

from embprobe import console
from embprobe.running.forecast import how_far
from embprobe.running.naming import Naming
from embprobe.store import Artefact, Json, Store

MOST_CLASSES = 12  # listed with their counts
HIDDEN = ("counts", "classes", "class_counts")  # told in words of their own


def show_artefact(artefact: Artefact, as_json: bool) -> None:
    """Everything about one artefact."""
    if as_json:
        known: Json = artefact.manifest if artefact.complete else {"spec": artefact.spec, "options": artefact.options}
        console.result_json({"path": str(artefact.path), "complete": artefact.complete, **known})
        return
    naming = Naming(Store(artefact.root))
    names = naming.aliases.get(artefact.fingerprint)
    console.result(f"{artefact.stage} {artefact.fingerprint}" + (f", called {' '.join(names)}" if names else ""))
    console.result(str(artefact.path))
    _line("what", naming.gist(artefact))
    inputs = [f"{key.replace('_', ' ')} {_called(naming, a)}" for key, a in artefact.inputs.items()]
    _line("made from", ", ".join(inputs) or "nothing in the store")
    given = {k: v for k, v in artefact.options.items() if v is not None and v != [] and k not in _roots(artefact)}
    _line("options", "  ".join(f"{k}={_short(v)}" for k, v in given.items()))
    if not artefact.complete:
        done, total = how_far(artefact) if artefact.folder.sums else (0, 0)
        far = f" ({done} of {total})" if total else ""
        begun = f"unfinished{far}; run its command again to continue"
        console.result(begun if artefact.folder.sums else "only asked for, and nothing made; its command makes it")
        return
    _facts(artefact)
    for key, value in artefact.metrics.items():
        if value not in (None, [], {}):
            _measured(key, value)


def _facts(artefact: Artefact) -> None:
    """Where, when and under what it was made."""
    facts = artefact.manifest
    there = f" and {console.size(gpu)} of the GPU's" if (gpu := facts.get("device_peak_bytes")) else ""
    finished = facts["finished"].replace("T", " ").replace("Z", " UTC")
    _line("finished", f"{finished} on {facts['host']}, in {console.duration(facts['seconds'])}")
    _line("memory", f"at most {console.size(facts['peak_bytes'])}{there}")
    _line("disk", f"{console.size(facts['bytes'])} in {facts['files']} files")
    if "conditions" in facts:
        _line("conditions", "  ".join(f"{k} {v}" for k, v in facts["conditions"].items() if v is not None))
    _line("versions", "  ".join(f"{k} {v}" for k, v in facts["versions"].items() if v))
    for event in facts.get("events", []):
        _line("event", "  ".join(f"{k} {_short(v)}" for k, v in event.items()))


def _roots(artefact: Artefact) -> set[str]:
    return {key.split(".")[0] for key in artefact.inputs}


def _called(naming: Naming, artefact: Artefact) -> str:
    alias = naming.aliases.get(artefact.fingerprint)
    return f"{' '.join(alias)} ({artefact.short})" if alias else artefact.short


def _line(head: str, text: str) -> None:
    console.result(f"{head:<12} {text}")


def _measured(key: str, value: Json) -> None:
    """One thing that was measured; long lists and lists of records a line each."""
    head = key.replace("_", " ")
    if isinstance(value, dict) and value and all(isinstance(v, int) for v in value.values()):
        counts = list(value.items())
        more = f", … {len(counts)} in all" if len(counts) > MOST_CLASSES else ""
        _line(head, ", ".join(f"{name} {count}" for name, count in counts[:MOST_CLASSES]) + more)
    elif isinstance(value, dict) and any(isinstance(v, (dict, list)) for v in value.values()):
        for part, inner in value.items():
            _line(f"{head} · {part}", _short(inner))
    elif isinstance(value, list) and value and any(isinstance(v, dict) or len(str(v)) > 60 for v in value):
        for number, inner in enumerate(value):
            _line(head if not number else "", _short(inner))
    else:
        _line(head, _short(value))


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
    """The comparison table of a report, on stderr; where it has one, in the short form that fits a terminal."""
    if artefact.stage == "report" and artefact.has("table.json"):
        table = artefact.read_json("table.json", dict)
        if table.get("headline"):
            console.say(str(table["headline"]))
        table = table.get("short") or table
        console.print_table(table["headers"], table["rows"], to_stderr=True)
