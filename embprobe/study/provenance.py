"""Where a page's figures come from: every artefact by its fingerprint, and the commands that make them again."""

import shlex
from collections.abc import Iterator, Sequence

from embprobe import console
from embprobe.errors import UserError
from embprobe.page import html
from embprobe.page.html import Cell
from embprobe.store import Artefact, Json
from embprobe.study.reading import Study


def provenance(study: Study) -> str:
    """Every artefact behind the page, in the order it was made, with the command that makes it again."""
    everything = in_order(study.all)
    rows = []
    for artefact in everything:
        if not artefact.complete:
            only = [Cell(""), Cell(""), Cell(""), Cell("only asked for, never stored")]
            rows.append([Cell(artefact.stage), Cell(artefact.fingerprint), *only])
            continue
        facts, seconds, size = artefact.manifest, artefact.manifest["seconds"], artefact.manifest["bytes"]
        costs = [Cell(console.duration(seconds), sort=seconds), Cell(console.size(size), sort=size)]
        rows.append(
            [Cell(artefact.stage), Cell(artefact.fingerprint), *costs, Cell(facts["host"]), Cell(facts["finished"])]
        )
    commands = "\n".join(command(a) for a in everything)
    versions = "  ".join(f"{k} {v}" for k, v in everything[-1].manifest["versions"].items() if v)
    caption = "Everything behind this page, in the order it was made"
    table = html.table(["stage", "fingerprint", "time", "size", "host", "finished"], rows, caption=caption)
    table = html.folded(f"Fingerprints ({len(rows)} artefacts)", table)
    return table + html.folded("Commands that make it again", html.code(commands)) + html.text(versions)


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


def command(artefact: Artefact) -> str:
    """The command line of an artefact."""
    later = "" if artefact.complete else " --later"
    return f"embprobe {artefact.stage}{''.join(_options(artefact.options))}{later}"


def _options(options: dict[str, Json]) -> Iterator[str]:
    for key, value in options.items():
        if value is None or key in ("device", "later", "resident") or (key == "through" and not value):
            continue
        if key == "artefacts":
            yield "".join(f" {v[:10]}" for v in value)
        elif isinstance(value, bool):
            yield f" --{'' if value else 'no-'}{key.replace('_', '-')}"
        else:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            yield f" --{key.replace('_', '-')} {shlex.quote(text)}"
