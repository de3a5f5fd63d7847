"""What a stage is: a frozen dataclass whose fields are its options, its recipe keys and its fingerprint."""

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, Union

from embprobe.store.hashes import file_hash
from embprobe.errors import UserError, did_you_mean
from embprobe.store import Artefact, Json, Store


def opt(
    help: str,
    default: Any = MISSING,
    *,
    runtime: bool = False,
    kinds: tuple[str, ...] = (),
    path: bool | Literal["file"] = False,
    positional: bool = False,
) -> Any:  # Any: stands for a field of whatever type the class gives it
    """A stage's option.

    `runtime` ones (device, workers, forward batch) may change rounding, nothing else, and stay out of the fingerprint;
    `kinds` names the stages whose artefacts fit; `path` marks a string that may be a path, `file` one that counts
    by content where it names a file;
    `positional` ones are given in the shell without their name.
    """
    metadata = {"help": help, "runtime": runtime, "kinds": kinds, "path": path, "positional": positional}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the flow; `run` writes its artefact."""

    version: ClassVar[int] = 1  # raise when `run` would write other bytes

    @classmethod
    def name(cls) -> str:
        """The command, and the folder in the store."""
        return cls.__name__.lower()

    def check(self) -> None:
        """Raises UserError where complete inputs don't fit together."""

    def prepare(self, first: Callable[["Stage"], Artefact]) -> Self:
        """This stage with what it needs and was not given; `first` makes another stage's artefact."""
        return self

    def run(self, out: Artefact) -> None:
        """Writes the artefact; called again after a kill, skips what is whole and continues the rest."""
        raise NotImplementedError(self.name())

    def deliver(self, out: Artefact) -> None:
        """What is asked for beside the artefact, such as a folder of pictures; also when it was made before."""

    def work(self) -> float:
        """How much there is to do, in a unit of the stage's own, for estimates of time; 0 when unknown."""
        return 0.0

    def disk(self) -> int:
        """Roughly how many bytes the artefact takes; 0 when unknown."""
        return 0

    def spec(self) -> dict[str, Json]:
        """The question this stage answers: every deciding option, by content where it names files or artefacts."""
        decided = {f.name: _by_content(named_file(self, f)) for f in deciding(type(self))}
        return {"stage": self.name(), "version": self.version, **decided}

    def options(self) -> dict[str, Json]:
        """The options as given, to ask the same again; artefacts by fingerprint, paths absolute."""
        return {f.name: _as_given(named_file(self, f)) for f in dataclasses.fields(self)}

    def inputs(self) -> dict[str, Artefact]:
        """The artefacts among the fields, by field; those in a tuple as `name.0`, `name.1`."""
        found: dict[str, Artefact] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Artefact):
                found[field.name] = value
            elif isinstance(value, tuple):
                found |= {f"{field.name}.{i}": v for i, v in enumerate(value) if isinstance(v, Artefact)}
        return found


def deciding(cls: type[Stage]) -> list["dataclasses.Field[Any]"]:
    """The fields that enter the fingerprint."""
    return [f for f in dataclasses.fields(cls) if not f.metadata.get("runtime")]


def named_file(stage: Stage, field: "dataclasses.Field[Any]") -> object:
    """The field's value; a word that may name a file, and does, counts as that file."""
    value = getattr(stage, field.name)
    if field.metadata.get("path") == "file" and isinstance(value, str) and Path(value).is_file():
        return Path(value)
    return value


def _by_content(value: object) -> Json:
    if isinstance(value, Artefact):
        return value.fingerprint
    if isinstance(value, Path):
        return file_hash(value)
    if isinstance(value, tuple):
        return [_by_content(v) for v in value]
    return typing.cast(Json, value)


def _as_given(value: object) -> Json:
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, tuple):
        return [_as_given(v) for v in value]
    return _by_content(value)


# ---- from words to a stage: the shell, a recipe and a manifest all come through here

Given = Mapping[str, object]


def build(
    cls: type[Stage],
    given: Given,
    store: Store,
    first: Callable[[Stage], Artefact],
    *,
    ingest: type[Stage] | None = None,
) -> Stage:
    """A stage from options as words or values.

    A folder or zip where an `ingest` artefact fits is ingested `first`. Raises UserError for an unknown or missing
    option, a value of the wrong type, or an artefact that isn't there or doesn't fit.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    for key in given:
        if key not in fields:
            raise UserError(f"{cls.name()} has no option {key!r}{did_you_mean(key, fields)}")

    def artefact(word: object, field: "dataclasses.Field[Any]") -> Artefact:
        if isinstance(word, Artefact):
            return _fitting(word, field, cls)
        if isinstance(word, (list, tuple)):
            raise UserError(f"--{_dash(field.name)} takes one artefact, and this is a list of {len(word)}; name one of them")
        kinds = field.metadata["kinds"]
        found = store.lookup(str(word))
        if found is not None:
            return _fitting(found, field, cls)
        if ingest is not None and ingest.name() in kinds and Path(str(word)).exists():
            return first(build(ingest, {"source": str(word)}, store, first))
        wanted = " or ".join(kinds) or "any artefact"
        raise UserError(
            f"--{_dash(field.name)}: nothing called {str(word)!r} in {store.root}; `embprobe ls` lists what is there "
            f"({wanted} fits here)"
        )

    values = {k: _convert(v, hints[k], fields[k], cls, artefact) for k, v in given.items() if v is not None}
    for name, field in fields.items():
        if name in values or field.default is not MISSING:
            continue
        if hints[name] is not Artefact:
            raise UserError(f"{cls.name()} needs --{_dash(name)}: {field.metadata['help']}")
        named = [v for v in values.values() if isinstance(v, Artefact)]
        values[name] = store.left_out(name, field.metadata["kinds"], named)
    stage = cls(**values)
    return stage.prepare(first)


def _dash(name: str) -> str:
    return name.replace("_", "-")


def _fitting(artefact: Artefact, field: "dataclasses.Field[Any]", cls: type[Stage]) -> Artefact:
    kinds = field.metadata["kinds"]
    if kinds and artefact.stage not in kinds:
        raise UserError(
            f"--{_dash(field.name)}: {artefact.short} was made by {artefact.stage}, but {cls.name()} needs what "
            f"{' or '.join(kinds)} makes"
        )
    return artefact


def _convert(
    value: object,
    hint: Any,  # Any: a type expression
    field: "dataclasses.Field[Any]",
    cls: type[Stage],
    artefact: Callable[[object, "dataclasses.Field[Any]"], Artefact],
) -> object:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        options = [a for a in args if a is not type(None)]
        if Artefact in options and str in options:
            return value if isinstance(value, Artefact) else _known_artefact(value, field, cls, artefact)
        return _convert(value, options[0], field, cls, artefact)
    if origin is tuple:
        parts = value if isinstance(value, (list, tuple)) else [p for p in str(value).split(",") if p.strip()]
        return tuple(_convert(p, args[0], field, cls, artefact) for p in parts)
    if hint is Artefact:
        return artefact(value, field)
    return _plain(value, hint, field)


def _known_artefact(
    value: object,
    field: "dataclasses.Field[Any]",
    cls: type[Stage],
    artefact: Callable[[object, "dataclasses.Field[Any]"], Artefact],
) -> object:
    """An artefact where the word names one, else the word itself."""
    try:
        return artefact(value, field)
    except UserError as error:
        if "nothing called" in str(error):
            return str(value)
        raise


def _plain(value: object, hint: Any, field: "dataclasses.Field[Any]") -> object:  # Any: a type expression
    label = f"--{_dash(field.name)}"
    if typing.get_origin(hint) is Literal:
        allowed = [str(a) for a in typing.get_args(hint)]
        if str(value) not in allowed:
            raise UserError(
                f"{label} is {str(value)!r}; it must be one of {', '.join(allowed)}{did_you_mean(str(value), allowed)}"
            )
        return str(value)
    if hint is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if str(value).lower() not in words:
            raise UserError(f"{label} is {value!r}; it must be true or false")
        return words[str(value).lower()]
    if hint in (int, float):
        return _number(value, hint, label)
    if isinstance(value, (dict, list)):
        raise UserError(f"{label} is {value!r}; it must be a single value")
    return hint(str(value))


def _number(value: object, hint: type, label: str) -> int | float:
    kind = "a whole number" if hint is int else "a number"
    try:
        number = float(str(value).replace("_", ""))
        if isinstance(value, bool) or number != number or number in (float("inf"), float("-inf")):
            raise ValueError
        if hint is int and number != int(number):
            raise ValueError
    except ValueError:
        raise UserError(f"{label} is {value!r}; it must be {kind}") from None
    return int(number) if hint is int else number
