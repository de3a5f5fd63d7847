"""The commands that make a page again, as a shell would take them: each artefact by its alias or by a variable."""

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from embprobe.encoders.names import from_hub
from embprobe.errors import UserError
from embprobe.stage import FIELDS, RUNTIME, Stage, dashed
from embprobe.store import Artefact, Json
from embprobe.study.facts import Aliases

LETTERS = {
    "ingest": "I", "pretrain": "N", "classify": "J", "extract": "E", "compress": "L", "diffuse": "D", "decode": "P",
    "sample": "S", "evaluate": "M", "probe": "R", "predict": "I",
}  # fmt: skip
BY_ITSELF = ("features", "measure", "read", "ceiling")  # what `evaluate` and `probe` ask for without being told

Stages = Mapping[str, type[Stage]]


class Script:
    """Artefacts in an order in which they can be made, and what each is called in the shell."""

    def __init__(self, artefacts: Sequence[Artefact], aliases: Aliases, stages: Stages) -> None:
        self.aliases, self.stages = aliases, stages
        self.artefacts = [a for a in artefacts if a.stage not in BY_ITSELF]
        unnamed = [a for a in self.artefacts if a.fingerprint not in aliases]
        many, placed = Counter(a.stage for a in unnamed), Counter[str]()
        self.variables: dict[Artefact, str] = {}
        for artefact in unnamed:
            placed[artefact.stage] += 1
            letter = LETTERS.get(artefact.stage, artefact.stage.upper())
            self.variables[artefact] = f"{letter}{placed[artefact.stage] if many[artefact.stage] > 1 else ''}"

    def text(self, report: Artefact | None = None) -> str:
        """All of it, the report last."""
        lines = ["set -euo pipefail", *(self.line(artefact) for artefact in self.artefacts)]
        return "\n".join([*lines, self.command(report)] if report is not None else lines)

    def line(self, artefact: Artefact) -> str:
        """The command of an artefact; its path is kept in a variable unless it has an alias."""
        command = self.command(artefact)
        if artefact in self.variables:
            return f"{self.variables[artefact]}=$({command})"
        return f"{command} --name {shlex.quote(self.aliases[artefact.fingerprint])}"

    def called(self, artefact: Artefact) -> str:
        """How the shell refers to it."""
        if artefact in self.variables:
            return f'"${self.variables[artefact]}"'
        return shlex.quote(self.aliases.get(artefact.fingerprint, artefact.short))

    def command(self, artefact: Artefact) -> str:
        """The stage with the options that it would not have by itself."""
        later = "" if artefact.complete or artefact.stage == "report" else " --later"
        return f"embprobe {artefact.stage}{''.join(self.words(artefact))}{later}"

    def words(self, artefact: Artefact) -> Iterator[str]:
        """The options as the shell is given them."""
        cls, given = self.stages.get(artefact.stage), taken(artefact)
        if cls is not None:
            given = needed(cls, given)
        known: dict[str, Any] = getattr(cls, FIELDS, {})  # Any: dataclass fields
        for name, value in given.items():
            if name in known and known[name].metadata.get("positional"):
                yield from (f" {self.word(v)}" for v in (value if isinstance(value, tuple) else (value,)))
            elif isinstance(value, bool):
                yield f" --{'' if value else 'no-'}{name.replace('_', '-')}"
            else:
                parts = value if isinstance(value, tuple) else (value,)
                yield f" {dashed(name)} {','.join(map(self.word, parts))}"

    def word(self, value: object) -> str:
        """A value as the shell takes it."""
        return self.called(value) if isinstance(value, Artefact) else shlex.quote(str(value))


def taken(artefact: Artefact) -> dict[str, object]:
    """An artefact's options with its inputs as artefacts; what runs otherwise but answers the same is left out."""
    inputs, found = artefact.inputs, dict[str, object]()
    for name, value in artefact.options.items():
        if value is None or (name in RUNTIME and name != "through"):
            continue
        if isinstance(value, list):
            found[name] = tuple(inputs.get(f"{name}.{i}", v) for i, v in enumerate(value))
        else:
            found[name] = inputs.get(name, value)
    return found


def needed(cls: type[Stage], given: dict[str, object]) -> dict[str, object]:
    """Options without those that the stage has by itself, or sets itself where they are left out."""
    fields: dict[str, Any] = getattr(cls, FIELDS)  # Any: dataclass fields
    kept = {k: v for k, v in given.items() if k not in fields or not _usual(fields[k].default, v)}
    if "weights" in kept and from_hub(Path(str(kept["weights"]))):
        del kept["weights"]
    whole = _answer(cls, kept)
    if whole is None:
        return kept
    for name in list(kept):
        fewer = {k: v for k, v in kept.items() if k != name}
        if _answer(cls, fewer) == whole:
            kept = fewer
    return kept


def _usual(default: object, value: object) -> bool:
    """Whether a value is the default; 1 is no True."""
    return default == value and isinstance(default, bool) == isinstance(value, bool)


def _answer(cls: type[Stage], given: Mapping[str, object]) -> dict[str, Json] | None:
    """All options, if these are given; None where they don't make a stage."""
    try:
        return cls(**given).options()
    except (UserError, TypeError, KeyError):  # also of an artefact that an older version wrote
        return None
