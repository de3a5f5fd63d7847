"""The only file that knows Typer: one command per stage, and run, plan, ls, show, verify, rm, gc, demo."""

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

from embprobe import __version__, console, signals
from embprobe.errors import UserError
from embprobe.inspection import listing, pictures, plans, upkeep
from embprobe.options import build
from embprobe.running import comparing
from embprobe.stage import Stage, described, fields_of
from embprobe.stages import INGEST, STAGES
from embprobe.store import Artefact, Store

RICH: Literal["rich"] | None = "rich" if sys.stdout and sys.stdout.isatty() else None  # help is plain text elsewhere
app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=RICH)

StoreOption = Annotated[
    Path, typer.Option("--store", metavar="FOLDER", envvar="EMBPROBE_STORE", help="folder of artefacts")
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON instead")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="exit 75 where another process is making the same")]
Sets = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="replace a value of the recipe's `set`")
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", metavar="NAME", help="cpu, cuda, cuda:1, … for every step")
]
JobsOption = Annotated[
    str,
    typer.Option(
        "--jobs",
        metavar="N",
        help="steps that don't need each other made at once, in processes that share the cores and hold N times the "
        "memory; auto: one a core, at most 4, and 1 on a GPU",
    ),
]
DEFAULT_STORE = Path("embstore")


# ---- stages


def _metavar(hint: Any) -> str:  # Any: a type expression
    if typing.get_origin(hint) is Literal:
        return "|".join(map(str, typing.get_args(hint)))
    options = [a for a in typing.get_args(hint) if a is not type(None)]
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_metavar(o) for o in options)
    if typing.get_origin(hint) is tuple:
        return f"{_metavar(options[0])},…"
    return {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "FILE", Artefact: "ARTEFACT", bool: "BOOLEAN"}[hint]


def _parameter(field: "dataclasses.Field[Any]", hint: Any) -> inspect.Parameter:  # Any: as dataclasses has it
    dashed, help = field.name.replace("_", "-"), described(field)
    help = help.replace("[", "\\[") if RICH else help  # brackets would be taken for markup
    words = [f"--{dashed}/--no-{dashed}"] if hint is bool else [f"--{dashed}"]
    if field.metadata["positional"]:
        argument = typer.Argument(None, help=field.metadata["help"], metavar=f"{field.name.upper()}…")
        return inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=argument, annotation=list[str] | None
        )
    one_by_one = hint == tuple[str, ...] and field.metadata["path"]  # a path may hold a comma
    metavar = "NAME=PATH" if one_by_one else None if hint is bool else _metavar(hint)
    option = typer.Option(None, *words, help=help, metavar=metavar, show_default=False)
    annotation = list[str] | None if one_by_one else bool | None if hint is bool else str | None
    return inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=annotation)


def _command(cls: type[Stage], answer: Callable[[Stage, Store, bool], Artefact] | None = None) -> Callable[..., None]:
    hints = typing.get_type_hints(cls)
    own = [_parameter(f, hints[f.name]) for f in fields_of(cls) if not f.metadata["derived"]]

    def command(*, store: Path, name: str | None, json: bool, no_wait: bool, **given: str | bool | None) -> None:
        console.guard_stdout()
        signals.install()
        place = Store(store)
        if name is not None:
            place.check_name(name)
        from embprobe.making import make

        maker = partial(make, store=place, wait=not no_wait)
        stage = build(cls, {k: v for k, v in given.items() if v is not None}, place, maker, ingest=INGEST)
        _print_made(answer(stage, place, not no_wait) if answer else maker(stage), place, name, json)

    extra = [
        inspect.Parameter("store", inspect.Parameter.KEYWORD_ONLY, default=DEFAULT_STORE, annotation=StoreOption),
        inspect.Parameter(
            "name",
            inspect.Parameter.KEYWORD_ONLY,
            default=typer.Option(None, metavar="NAME", help="a name for the artefact"),
            annotation=str | None,
        ),
        inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=JsonOption),
        inspect.Parameter("no_wait", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=NoWait),
    ]
    command.__signature__ = inspect.Signature([*own, *extra])  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in [*own, *extra]}
    command.__doc__ = cls.about
    return command


def _print_made(artefact: Artefact, store: Store, name: str | None, as_json: bool) -> None:
    if name is not None:
        store.name(name, artefact)
    if as_json:
        known = artefact.manifest if artefact.complete else {"complete": False, **artefact.request()}
        console.result_json({"path": str(artefact.path), **known})
    else:
        console.result_path(str(artefact.path))


for _name, _cls in STAGES.items():
    app.command(_name)(_command(_cls))


# ---- recipes


def _compare(asked: Stage, store: Store, wait: bool) -> Artefact:
    report = comparing.compare(**asked.given(), store=store, wait=wait)  # type: ignore[attr-defined]
    listing.show_tables(report)
    return report


app.command("compare")(_command(comparing.Compare, _compare))


@app.command("run")
def run_recipe(
    recipe: Annotated[str, typer.Argument(help="a YAML file, or the name of a recipe that ships with embprobe")],
    sets: Sets = None,
    store: StoreOption = DEFAULT_STORE,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="a name for the last artefact")] = None,
    device: DeviceOption = None,
    jobs: JobsOption = "auto",
    json: JsonOption = False,
    no_wait: NoWait = False,
) -> None:
    """Make everything a recipe asks for; asked again, it continues or costs nothing."""
    console.guard_stdout()
    signals.install()
    from embprobe.recipe import assigned
    from embprobe.running import jobs_of, run

    place = Store(store)
    if name is not None:
        place.check_name(name)
    last = run(recipe, place, assigned(sets or []), device=device, jobs=jobs_of(jobs), wait=not no_wait)
    listing.show_tables(last)
    _print_made(last, place, name, json)


@app.command()
def demo(
    sets: Sets = None,
    store: StoreOption = DEFAULT_STORE,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="a name for the report")] = None,
    device: DeviceOption = None,
    jobs: JobsOption = "auto",
    json: JsonOption = False,
    no_wait: NoWait = False,
) -> None:
    """Watch the whole study run in a few minutes, on scenes drawn on the spot; ends with a report."""
    run_recipe("demo", sets, store, name, device, jobs, json, no_wait)


@app.command()
def plan(
    recipe: Annotated[str, typer.Argument(help="a YAML file, or the name of a recipe that ships with embprobe")],
    sets: Sets = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Say what `run` would do: cached, or will run and why, with rough time and disk."""
    console.guard_stdout()
    from embprobe import recipe as recipes
    from embprobe.making import planned
    from embprobe.running import made

    place = Store(store)
    loaded = recipes.load_recipe(recipes.locate(recipe), recipes.assigned(sets or []))
    steps = made(loaded, place, partial(planned, store=place))
    plans.show_plan([plans.plan_step(step.label, stage, out, place) for step, stage, out in steps], json)


@app.command()
def encoders(json: JsonOption = False) -> None:
    """List the encoders that have names: source, input size, grid, width, licence, and whether the weights are here."""
    console.guard_stdout()
    listing.show_encoders(json)


# ---- the store


@app.command("ls")
def list_(store: StoreOption = DEFAULT_STORE, json: JsonOption = False) -> None:
    """List the artefacts."""
    console.guard_stdout()
    listing.show_list(Store(store).check_there(), json)


@app.command()
def show(
    artefact: Annotated[str, typer.Argument(help="a name, fingerprint prefix or path")],
    png: Annotated[Path | None, typer.Option(metavar="FOLDER", help="draw a data set there, as contact.png")] = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Tell everything about an artefact: what it answers, from what, what it holds and measured."""
    console.guard_stdout()
    if png is not None:
        pictures.write_pictures(Store(store)[artefact], png)
    listing.show_artefact(Store(store)[artefact], json)


@app.command("verify")
def verify_artefacts(
    artefacts: Annotated[
        list[str] | None, typer.Argument(help="names, prefixes or paths; all if none is given")
    ] = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="make damaged chunks and files again, and nothing else")
    ] = False,
    anew: Annotated[
        bool, typer.Option("--anew", help="with --repair: make all of a damaged artefact again, from the start")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Check every chunk and file against its checksum; exits 3 where one differs."""
    console.guard_stdout()
    signals.install()
    if anew and not repair:
        raise UserError("--anew says how to repair; give --repair too")
    place = Store(store)
    chosen = [place[word] for word in artefacts] if artefacts else place.check_there().artefacts()
    upkeep.verify(chosen, repair, json, anew=anew)


@app.command()
def rm(
    artefacts: Annotated[list[str], typer.Argument(help="names, prefixes or paths")],
    recursive: Annotated[bool, typer.Option("--recursive", help="also what was made from them, in any store")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="don't ask")] = False,
    store: StoreOption = DEFAULT_STORE,
) -> None:
    """Remove artefacts that nothing else was made from."""
    console.guard_stdout()
    signals.install()
    place = Store(store)
    chosen = [place[word] for word in artefacts]
    upkeep.remove_artefacts(place, chosen, lambda text: yes or typer.confirm(text, err=True), recursive=recursive)


@app.command()
def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would go, and remove nothing")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="don't ask")] = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Clear away what kills left behind, and requests of which nothing was made; never a result."""
    console.guard_stdout()
    signals.install()
    upkeep.clear(
        Store(store).check_there(), lambda text: yes or typer.confirm(text, err=True), dry=dry_run, as_json=json
    )


def _version(value: bool) -> None:
    if value:
        console.result(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Tell what a frozen image encoder keeps and what it throws away, by learning to generate from its embeddings."""
