"""What a stage is: a frozen dataclass whose fields are its options, its recipe keys and its fingerprint."""

import dataclasses
import inspect
import numbers
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from embprobe.errors import UserError
from embprobe.store import Artefact, Json
from embprobe.store.hashes import file_hash

Field = dataclasses.Field[Any]  # Any: a field of whatever type
FIELDS = "__dataclass_fields__"
MOST = 10**15  # of any number: beyond, a float can't tell it from its neighbours, and a generator takes it for no seed
MOST_FILE = 1 << 36  # bytes of a file that is read whole
RUNTIME = (
    *("device", "deterministic", "program", "compile", "profile", "tensorboard", "threads", "forward", "png", "later"),
    *("through", "resident"),
)  # all options that may stay out of a fingerprint
DETERMINISTIC = (
    "on a GPU: only operations that give the same bits every time, so that what is continued equals what was not"
)


def option(
    help: str,
    default: Any = MISSING,
    *,
    runtime: bool = False,
    made_by: tuple[str, ...] = (),
    path: bool | Literal["file", "folder"] = False,
    positional: bool = False,
    derived: bool = False,
    later: bool = False,
    like: str | None = None,
    words: Mapping[str, str] | None = None,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> Any:  # Any: stands for a field of whatever type the class gives it
    """A stage's option.

    `runtime` ones (device, threads, forward batch) may change rounding, nothing else, and stay out of the fingerprint;
    `made_by` names the stages whose artefacts fit; `path` marks a string that may be a path, `file` one that counts
    by content where it names a file, `folder` one that names a folder; `positional` ones are given in the shell without
    their name; `derived` ones are filled in by `prepare` and can't be given; `later` ones, which came when artefacts had
    been made without them, count only where they differ from their default; a folder given for one that is `like`
    another input is ingested at that one's size; `words` have a meaning of their own, and another spelling. `least`,
    `above`, `most` and `below` are the bounds of a number.
    """
    bounds = {"least": least, "above": above, "most": most, "below": below}
    metadata = {"help": help, "runtime": runtime, "made_by": made_by, "path": path, "positional": positional}
    metadata |= {"derived": derived, "later": later, "like": like, "words": words or {}, "bounds": bounds}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the flow; `run` writes its artefact."""

    version: ClassVar[int] = 1  # raise when `run` would write other bytes
    about: ClassVar[str] = ""  # the docstring without the options, which `help` in Python lists too

    def __init_subclass__(cls) -> None:
        inherited = {name: f for base in reversed(cls.__mro__) for name, f in getattr(base, FIELDS, {}).items()}
        own = {name: value for name, value in vars(cls).items() if isinstance(value, dataclasses.Field)}
        shown = {name: f for name, f in (own | inherited | own).items() if f.metadata.get("derived") is False}
        cls.about = inspect.cleandoc(cls.__doc__ or "")
        cls.__doc__ = "\n".join([cls.about, "", "Options:", *(f"    {n}: {described(f)}" for n, f in shown.items())])

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = coerced(field, hints[field.name], getattr(self, field.name))
            object.__setattr__(self, field.name, value)
            check_field(type(self), field, value)
        for name, value in self.resolved().items():
            object.__setattr__(self, name, value)
        self.validate()

    @classmethod
    def name(cls) -> str:
        """The command, and the folder in the store."""
        return cls.__name__.lower()

    def resolved(self) -> dict[str, object]:
        """Values of options that were left out and follow from the others."""
        return {}

    def validate(self) -> None:
        """Raises UserError where options contradict each other."""

    def prepare(self, make: "Make", *, download: bool) -> Self:
        """This stage with what it needs and was not given; `make` makes another stage's artefact.

        Weights that are not on this machine are fetched if `download`.
        """
        return self

    def is_put_off(self) -> bool:
        """Whether it is only asked for, and others compute what they need of it."""
        return False

    def needed(self) -> dict[str, Artefact]:
        """The artefacts that must be complete before `run`, by field."""
        return self.inputs()

    def check(self) -> None:
        """Raises UserError where complete inputs don't fit together."""

    def run(self, out: Artefact) -> None:
        """Writes the artefact; called again after a kill, skips what is whole and continues the rest."""
        raise NotImplementedError(self.name())

    def export(self, out: Artefact) -> None:
        """What is asked for beside the artefact, such as a folder of pictures; also when it was made before."""

    def work(self) -> float:
        """How much there is to do, in a unit of the stage's own, for estimates of time; 0 when unknown."""
        return 0.0

    def disk(self) -> int:
        """Roughly how many bytes the artefact takes; 0 when unknown."""
        return 0

    def spec(self) -> dict[str, Json]:
        """The question this stage answers: every deciding option, by content where it names files or artefacts."""
        decided = {f.name: by_content(self._value(f)) for f in dataclasses.fields(self) if self._counts(f)}
        return {"stage": self.name(), "version": self.version, **decided}

    def options(self) -> dict[str, Json]:
        """The options, to ask the same again; artefacts by fingerprint, paths absolute."""
        given = [f for f in dataclasses.fields(self) if not f.metadata["derived"]]
        return {f.name: _as_given(self._value(f)) for f in given}

    def inputs(self) -> dict[str, Artefact]:
        """The artefacts among the fields, by field; those in a tuple as `name.0`, `name.1`."""
        artefacts: dict[str, Artefact] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Artefact):
                artefacts[field.name] = value
            elif isinstance(value, tuple):
                artefacts |= {f"{field.name}.{i}": v for i, v in enumerate(value) if isinstance(v, Artefact)}
        return artefacts

    def _counts(self, field: Field) -> bool:
        unchanged = field.metadata["later"] and getattr(self, field.name) == field.default
        return not (field.metadata["runtime"] or unchanged)

    def _value(self, field: Field) -> object:
        """The field's value; a word that may name a file, and does, is that file."""
        value = getattr(self, field.name)
        if field.metadata["path"] == "file":
            return tuple(map(_file, value)) if isinstance(value, tuple) else _file(value)
        return value


Make = Callable[[Stage], Artefact]


def fields_of(cls: type[Stage]) -> list[Field]:
    """The options of a stage, its own before those it shares with others."""
    own = {name: -depth for depth, c in enumerate(reversed(cls.__mro__)) for name in inspect.get_annotations(c)}
    return sorted(dataclasses.fields(cls), key=lambda f: own[f.name])


# ---- what a value must be


def dashed(name: str) -> str:
    """An option as the shell spells it."""
    return f"--{name.replace('_', '-')}"


def bounds_of(field: Field) -> str:
    """The bounds of an option in words; empty where it has none."""
    words = {"least": "at least", "above": "above", "most": "at most", "below": "below"}
    bounds = ((words[key], value) for key, value in field.metadata["bounds"].items() if value is not None)
    return " and ".join(f"{word} {spelled(value)}" for word, value in bounds)


def spelled(value: float) -> str:
    """A number for people."""
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def described(field: Field) -> str:
    """An option's help, with its bounds and its default."""
    facts = [bounds_of(field)] if bounds_of(field) else []
    if field.default not in (MISSING, None, ()):
        facts.append(f"default: {shown_default(field.default)}")
    help: str = field.metadata["help"]
    return help + (f"  [{'; '.join(facts)}]" if facts else "")


def shown_default(default: object) -> str:
    """A default as the shell would be given it."""
    if isinstance(default, bool):
        return "yes" if default else "no"
    return ",".join(map(str, default)) if isinstance(default, tuple) else str(default)


def coerced(field: Field, hint: Any, value: object) -> object:  # Any: a type expression
    """A value given in Python as the shell would have read it, so that 1 and 1.0, a path and its text are one question."""
    if value is None or isinstance(value, Artefact):
        return (value,) if typing.get_origin(hint) is tuple and value is not None else value
    choices = [a for a in typing.get_args(hint) if a is not type(None)] if _is_union(hint) else [hint]
    first = choices[0]
    if typing.get_origin(first) is tuple:
        several = value if isinstance(value, (tuple, list)) else (value,)
        return tuple(coerced(field, typing.get_args(first)[0], part) for part in several)
    if typing.get_origin(first) is Literal and value not in typing.get_args(first):
        allowed = ", ".join(map(str, typing.get_args(first)))
        raise UserError(f"{dashed(field.name)} is {value!r}; it must be one of {allowed}")
    if first in (int, float):
        kind = numbers.Integral if first is int else numbers.Real
        whole = first is int and isinstance(value, numbers.Real) and float(value).is_integer()
        if isinstance(value, bool) or not (whole or isinstance(value, kind)) or value != value:
            raise UserError(f"{dashed(field.name)} is {value!r}; it must be a {'whole ' * (first is int)}number")
        return first(value)
    if first is Path and isinstance(value, str):
        return Path(value)
    return str(value) if str in choices and isinstance(value, Path) else value


def _is_union(hint: Any) -> bool:  # Any: a type expression
    return typing.get_origin(hint) in (typing.Union, types.UnionType)


def check_field(cls: type[Stage], field: Field, value: object) -> None:
    """Raises UserError for a number out of its bounds, or an artefact of another stage than fits."""
    made_by = field.metadata["made_by"]
    for artefact in value if isinstance(value, tuple) else (value,):
        if isinstance(artefact, Artefact) and made_by and artefact.stage not in made_by:
            raise UserError(
                f"{dashed(field.name)}: {artefact.short} was made by {artefact.stage}, but {cls.name()} needs what "
                f"{' or '.join(made_by)} makes"
            )
    if made_by and isinstance(value, str) and typing.get_type_hints(cls)[field.name] is Artefact:
        raise UserError(f'{dashed(field.name)} takes an artefact, not a word; write store["{value}"]')
    for part in value if isinstance(value, tuple) else (value,):
        if isinstance(part, (int, float)):
            _check_bounds(field, part)


def _check_bounds(field: Field, value: float) -> None:
    if isinstance(value, int) and abs(value) > MOST:
        raise UserError(f"{dashed(field.name)} is {value:g}; it must be at most {MOST:g}")
    least, above, most, below = field.metadata["bounds"].values()
    if (
        (least is not None and value < least)
        or (above is not None and value <= above)
        or (most is not None and value > most)
        or (below is not None and value >= below)
    ):
        raise UserError(f"{dashed(field.name)} is {spelled(value)}; it must be {bounds_of(field)}")


# ---- values as JSON


def _file(value: object) -> object:
    return Path(value) if isinstance(value, str) and Path(value).is_file() else value


def by_content(value: object) -> Json:
    """A value as a fingerprint takes it: artefacts by fingerprint, files by their bytes."""
    if isinstance(value, Artefact):
        return value.fingerprint
    if isinstance(value, Path):
        if value.is_file() and value.stat().st_size > MOST_FILE:
            raise UserError(f"{value} has {value.stat().st_size:,} bytes, more than any weights; check the path")
        return file_hash(value)
    if isinstance(value, tuple):
        return [by_content(v) for v in value]
    return typing.cast(Json, value)


def _as_given(value: object) -> Json:
    if isinstance(value, Path):
        return str(value.absolute())
    if isinstance(value, tuple):
        return [_as_given(v) for v in value]
    return by_content(value)
