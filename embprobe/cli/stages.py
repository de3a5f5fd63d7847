"""A command per stage: its fields are the options, its docstring the help."""

import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from embprobe import console, signals
from embprobe.cli import completion
from embprobe.encoders.names import OTHERWISE
from embprobe.options import build
from embprobe.stage import Stage, described, fields_of
from embprobe.stages import INGEST
from embprobe.store import Artefact, Store

RICH: Literal["rich"] | None = "rich" if sys.stdout and sys.stdout.isatty() else None  # help is plain text elsewhere
DEFAULT_STORE = Path("embstore")
INPUTS, MADE, TRAINING, RUNTIME, STORE = (
    "Inputs",
    "What is asked for",
    "Training",
    "How it runs (the answer is the same)",
    "The store",
)
TRAINED = ("steps", "batch", "rate", "seed", "precision")  # of every training
ALSO = {"rate": "--learning-rate"}

StoreOption = Annotated[
    Path,
    typer.Option(
        "--store", metavar="FOLDER", envvar="EMBPROBE_STORE", help="folder of artefacts", rich_help_panel=STORE,
        is_eager=True,
    ),
]  # fmt: skip
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON instead", rich_help_panel=STORE)]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="exit 75 where another process is making the same", rich_help_panel=STORE)
]
NameOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="a name for the artefact", rich_help_panel=STORE)
]


def metavar(field: "dataclasses.Field[Any]", hint: Any) -> str:  # Any: as dataclasses has it, a type expression
    """What stands for a value in help."""
    if field.metadata["path"] == "folder":
        return "FOLDER"
    if typing.get_origin(hint) is Literal:
        return "|".join(map(str, typing.get_args(hint)))
    options = [a for a in typing.get_args(hint) if a is not type(None)]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(metavar(field, o) for o in options)
    if typing.get_origin(hint) is tuple:
        return f"{metavar(field, options[0])},…"
    return {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "FILE", Artefact: "ARTEFACT", bool: "BOOLEAN"}[hint]


def panel_of(field: "dataclasses.Field[Any]", cls: type[Stage]) -> str:
    """The heading that an option stands below."""
    if field.metadata["runtime"]:
        return RUNTIME
    if field.metadata["made_by"] or field.metadata["positional"] or field.default is dataclasses.MISSING:
        return INPUTS
    return TRAINING if field.name in TRAINED and hasattr(cls, "train") else MADE


def _completion(field: "dataclasses.Field[Any]") -> completion.Complete | None:
    """What Tab offers for an option; None for what the shell knows, such as files."""
    if field.metadata["made_by"] or field.metadata["positional"]:
        known = completion.artefacts(*field.metadata["made_by"])
        if not field.metadata["words"]:
            return known
        return completion.either(known, completion.words(lambda: list(OTHERWISE)))
    return None


def _parameter(field: "dataclasses.Field[Any]", hint: Any, cls: type[Stage]) -> inspect.Parameter:  # Any: as above
    dashed, help = field.name.replace("_", "-"), described(field)
    help = help.replace("[", "\\[") if RICH else help  # brackets would be taken for markup
    words = [f"--{dashed}/--no-{dashed}"] if hint is bool else [f"--{dashed}"]
    words += [ALSO[field.name]] if field.name in ALSO else []
    shared: dict[str, Any] = {
        "help": help,
        "rich_help_panel": panel_of(field, cls),
        "autocompletion": _completion(field),
    }
    if field.metadata["positional"]:
        argument = typer.Argument(None, metavar="[ARTEFACT]...", **shared)
        return inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=argument, annotation=list[str] | None
        )
    one_by_one = hint == tuple[str, ...] and field.metadata["path"]  # a path may hold a comma
    shown = "NAME=PATH" if one_by_one else None if hint is bool else metavar(field, hint)
    option = typer.Option(None, *words, metavar=shown, show_default=False, **shared)
    annotation = list[str] | None if one_by_one else bool | None if hint is bool else str | None
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=annotation)


def command_of(cls: type[Stage], answer: Callable[[Stage, Store, bool], Artefact] | None = None) -> Callable[..., None]:
    """The function behind a stage's command; `answer` makes more of what was asked than the stage's artefact."""
    hints = typing.get_type_hints(cls)
    own = [_parameter(f, hints[f.name], cls) for f in fields_of(cls) if not f.metadata["derived"]]
    own.sort(key=lambda p: (INPUTS, MADE, TRAINING, RUNTIME).index(p.default.rich_help_panel))

    def command(*, store: Path, name: str | None, json: bool, no_wait: bool, **given: str | bool | None) -> None:
        console.guard_stdout()
        signals.install()
        place = Store(store)
        if name is not None:
            place.check_name(name)
        from embprobe.making import make

        maker = partial(make, store=place, wait=not no_wait)
        stage = build(cls, {k: v for k, v in given.items() if v is not None}, place, maker, ingest=INGEST)
        print_made(answer(stage, place, not no_wait) if answer else maker(stage), place, name, json)

    extra = [
        inspect.Parameter("store", inspect.Parameter.KEYWORD_ONLY, default=DEFAULT_STORE, annotation=StoreOption),
        inspect.Parameter("name", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=NameOption),
        inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption),
        inspect.Parameter("no_wait", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=NoWait),
    ]
    command.__signature__ = inspect.Signature([*own, *extra])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [*own, *extra]}
    command.__doc__ = cls.about
    return command


def print_made(artefact: Artefact, store: Store, name: str | None, as_json: bool) -> None:
    """What a command that makes something ends with: the path on stdout, or all that is known as JSON."""
    if name is not None:
        store.name(name, artefact)
    if as_json:
        known = artefact.manifest if artefact.complete else {"complete": False, **artefact.request()}
        console.result_json({"path": str(artefact.path), **known})
    else:
        console.result_path(str(artefact.path))
