"""From words to a stage: the shell, a recipe and a manifest all come through here."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, Literal, Union

from embprobe.errors import UserError, did_you_mean
from embprobe.stage import Field, Make, Stage, dashed
from embprobe.store import Artefact, Store

Given = Mapping[str, object]


def build(cls: type[Stage], given: Given, store: Store, make: Make, *, ingest: type[Stage] | None = None) -> Stage:
    """A stage from options as words or values.

    A folder or zip where an `ingest` artefact fits is ingested first, by `make`. Raises UserError for an unknown or
    missing option, a value of the wrong type, or an artefact that isn't there or doesn't fit.
    """
    return Parser(cls, store, make, ingest).stage(given)


@dataclass(frozen=True)
class Parser:
    """Reads the options of one class of stages."""

    cls: type[Stage]
    store: Store
    make: Make
    ingest: type[Stage] | None

    def stage(self, given: Given) -> Stage:
        """The stage of these options; an input left out is inferred from the others."""
        fields = {f.name: f for f in dataclasses.fields(self.cls) if not f.metadata["derived"]}
        hints = typing.get_type_hints(self.cls)
        for key in given:
            if key not in fields:
                raise UserError(f"{self.cls.name()} has no option {key!r}{did_you_mean(key, fields)}")
        later = {k: v for k, v in given.items() if v is not None and fields[k].metadata["like"]}
        values = {k: self.value(fields[k], hints[k], v) for k, v in given.items() if v is not None and k not in later}
        for name, field in fields.items():
            if name in values or name in later or field.default is not MISSING:
                continue
            if hints[name] is not Artefact:
                label = name if field.metadata["positional"] else dashed(name)
                raise UserError(f"{self.cls.name()} needs {label}: {field.metadata['help']}")
            if field.metadata["made_by"] and later:
                values |= {k: v for k in later if (v := self.artefact(fields[k], later[k], known=True)) is not None}
            named = [v for v in values.values() if isinstance(v, Artefact)]
            values[name] = self.store.infer_input(name, field.metadata["made_by"], named)
        for name, word in later.items():
            values[name] = self.value(fields[name], hints[name], word, like=values.get(fields[name].metadata["like"]))
        return self.cls(**values)

    def value(self, field: Field, hint: Any, word: object, like: object = None) -> object:  # Any: a type expression
        """A word as a value of the field's type; a folder is ingested at the size of what it shall be `like`."""
        origin, args = typing.get_origin(hint), typing.get_args(hint)
        if origin in (Union, types.UnionType):
            choices = [a for a in args if a is not type(None)]
            if Artefact in choices and str in choices:
                return self.meant(field, word)
            return self.value(field, choices[0], word)
        if origin is tuple:
            several = word.split(",") if isinstance(word, str) else word if isinstance(word, (list, tuple)) else [word]
            return tuple(self.value(field, args[0], part) for part in several if part is not None and str(part).strip())
        if hint is Artefact:
            return self.artefact(field, word, like) or self.missing(field, word)
        return plain(field, hint, word)

    def meant(self, field: Field, word: object) -> Artefact | str:
        """An artefact, or a word with a meaning of its own. Raises UserError for one that is both."""
        found, otherwise = self.artefact(field, word), field.metadata["words"].get(str(word))
        if found is not None and otherwise is not None and found.stage not in field.metadata["made_by"]:
            return str(word)  # an alias of what could not be meant here
        if found is not None and otherwise is not None and not isinstance(word, Artefact):
            raise UserError(
                f"{dashed(field.name)} {word} is built in, and also the name of {found.stage} {found.short} here; write "
                f"{otherwise} for the first, or {found.short} for the second"
            )
        return found or str(word)

    def artefact(self, field: Field, word: object, like: object = None, *, known: bool = False) -> Artefact | None:
        """What is called so, or unless it must be `known` what a folder or zip is ingested as; None where neither is."""
        if isinstance(word, Artefact):
            return word
        if isinstance(word, (list, tuple)):
            raise UserError(
                f"{dashed(field.name)} takes one artefact, and this is a list of {len(word)}; name one of them"
            )
        artefact = self.store.lookup(str(word))
        ingest = self.ingest if not known and self.ingest and self.ingest.name() in field.metadata["made_by"] else None
        if artefact is None and ingest is not None and Path(str(word)).exists():
            return self.make(build(ingest, {"source": str(word), **side_of(like)}, self.store, self.make))
        return artefact

    def missing(self, field: Field, word: object) -> Artefact:
        """Raises UserError: nothing is called so."""
        fitting = " or ".join(field.metadata["made_by"]) or "any artefact"
        raise UserError(
            f"{dashed(field.name)}: nothing called {str(word)!r} in {self.store.root}; `embprobe ls` lists what is there "
            f"({fitting} fits here)"
        )


def side_of(like: object) -> dict[str, object]:
    """The size at which to ingest what shall be like another data set of square images."""
    if not isinstance(like, Artefact) or not like.complete:
        return {}
    size = like.metrics["size"]
    sides = {size} if isinstance(size, int) else set(size)
    return {"size": sides.pop()} if len(sides) == 1 else {}


def plain(field: Field, hint: Any, word: object) -> object:  # Any: a type expression
    """A word as a choice, a truth, a number, a path or text. Raises UserError."""
    label = dashed(field.name)
    if typing.get_origin(hint) is Literal:
        allowed = [str(a) for a in typing.get_args(hint)]
        if str(word) not in allowed:
            raise UserError(
                f"{label} is {str(word)!r}; it must be one of {', '.join(allowed)}{did_you_mean(str(word), allowed)}"
            )
        return str(word)
    if hint is bool:
        truths = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if str(word).lower() not in truths:
            raise UserError(f"{label} is {word!r}; it must be true or false")
        return truths[str(word).lower()]
    if hint in (int, float):
        return number(label, hint, word)
    if isinstance(word, (dict, list)):
        raise UserError(f"{label} is {word!r}; it must be a single value")
    return hint(str(word))


def number(label: str, hint: type, word: object) -> int | float:
    """A word as a finite number. Raises UserError."""
    kind = "a whole number" if hint is int else "a number"
    try:
        value = float(str(word).replace("_", ""))
        if isinstance(word, bool) or value != value or value in (float("inf"), float("-inf")):
            raise ValueError
        if hint is int and value != int(value):
            raise ValueError
    except ValueError:
        raise UserError(f"{label} is {word!r}; it must be {kind}") from None
    return int(value) if hint is int else value
