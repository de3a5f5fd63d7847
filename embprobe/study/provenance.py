"""Where a page's figures come from: every artefact by its fingerprint, in the order in which it was made."""

from collections.abc import Sequence

from embprobe import console
from embprobe.errors import UserError
from embprobe.page import html
from embprobe.page.html import Cell
from embprobe.store import Artefact
from embprobe.study.reading import Study


def provenance(study: Study, script: str) -> str:
    """Every artefact behind the page, in the order it was made, and the commands that make them again."""
    everything = in_order(study.all)
    rows = []
    for artefact in everything:
        name = Cell(study.aliases.get(artefact.fingerprint, ""))
        if not artefact.complete:
            only = [Cell(""), Cell(""), Cell(""), Cell("only asked for, never stored")]
            rows.append([Cell(artefact.stage), name, Cell(artefact.fingerprint), *only])
            continue
        facts, seconds, size = artefact.manifest, artefact.manifest["seconds"], artefact.manifest["bytes"]
        costs = [Cell(console.duration(seconds), sort=seconds), Cell(console.size(size), sort=size)]
        whence = [Cell(facts["host"]), Cell(facts["finished"])]
        rows.append([Cell(artefact.stage), name, Cell(artefact.fingerprint), *costs, *whence])
    versions = "  ".join(f"{k} {v}" for k, v in everything[-1].manifest["versions"].items() if v)
    caption = "Everything behind this page, in the order it was made"
    table = html.table(["stage", "name", "fingerprint", "time", "size", "host", "finished"], rows, caption=caption)
    table = html.folded(f"Fingerprints ({len(rows)} artefacts)", table)
    words = "They run in an empty store, given the same sources; what differs from a default is told, and nothing else."
    again = html.text(words) + html.code(script, "Commands")
    return table + html.folded("Commands that make it again", again) + html.text(versions)


def in_order(artefacts: Sequence[Artefact]) -> list[Artefact]:
    """By when they were finished, to the second, and each after all that it was made from."""
    ordered: dict[Artefact, None] = {}

    def place(artefact: Artefact) -> None:
        if artefact not in ordered:
            for source in artefact.inputs.values():
                place(source)
            ordered[artefact] = None

    for artefact in sorted(artefacts, key=_finished):
        place(artefact)
    return list(ordered)


def _finished(artefact: Artefact) -> str:
    """When; those that were only asked for come first."""
    try:
        return str(artefact.manifest["finished"])
    except UserError:
        return ""
