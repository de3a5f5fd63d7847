"""The command line, the only room that knows Typer: a command per stage, whole studies, the store."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from embprobe import __version__, console, signals
from embprobe.cli import completion
from embprobe.cli.help import NAMES, Group, about, first_screen
from embprobe.cli.stages import DEFAULT_STORE, RICH, JsonOption, NameOption, NoWait, StoreOption, command_of, print_made
from embprobe.errors import UserError
from embprobe.inspection import listing, plans, telling, upkeep
from embprobe.stages import STAGES
from embprobe.store import Store

app = typer.Typer(cls=Group, pretty_exceptions_enable=False, rich_markup_mode=RICH, context_settings=NAMES)

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
MOST_JOBS = 256


def _recipes() -> list[str]:
    from embprobe.recipe import SHIPPED

    here = (path.name for path in Path().glob("*.yaml"))
    return [*here, *sorted({path.stem for folder in SHIPPED for path in folder.glob("*.yaml")})]


RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="a YAML file, or the name of a recipe that ships with embprobe",
        autocompletion=completion.words(_recipes),
    ),
]
ArtefactArgument = Annotated[
    str, typer.Argument(metavar="ARTEFACT", help="a name, fingerprint or path", autocompletion=completion.artefacts())
]
SomeArtefacts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ARTEFACT]...",
        help="names, fingerprints or paths; all if none is given",
        autocompletion=completion.artefacts(),
    ),
]

for _name, _cls in STAGES.items():
    app.command(**about(_name))(command_of(_cls))


# ---- recipes


@app.command(**about("run"))
def run_recipe(
    recipe: RecipeArgument,
    sets: Sets = None,
    store: StoreOption = DEFAULT_STORE,
    name: NameOption = None,
    device: DeviceOption = None,
    jobs: JobsOption = "auto",
    json: JsonOption = False,
    no_wait: NoWait = False,
) -> None:
    """Make everything a recipe asks for; asked again, it continues or costs nothing."""
    console.guard_stdout()
    signals.install()
    from embprobe.recipe import assigned
    from embprobe.running import run

    place = Store(store)
    if name is not None:
        place.check_name(name)
    last = run(recipe, place, assigned(sets or []), device=device, jobs=_jobs(jobs), wait=not no_wait)
    telling.show_tables(last)
    print_made(last, place, name, json)


def _jobs(word: str) -> int | None:
    """A number of jobs; None for `auto`. Raises UserError."""
    if word == "auto":
        return None
    if not (word.isdecimal() and 1 <= int(word[:6]) <= MOST_JOBS):
        raise UserError(f"--jobs is {word!r}; give a number from 1 to {MOST_JOBS}, or auto")
    return int(word)


@app.command(**about("demo"))
def demo(
    sets: Sets = None,
    store: StoreOption = DEFAULT_STORE,
    name: NameOption = None,
    device: DeviceOption = None,
    jobs: JobsOption = "auto",
    json: JsonOption = False,
    no_wait: NoWait = False,
) -> None:
    """Watch the whole study run in a few minutes, on scenes drawn on the spot; ends with a report."""
    run_recipe("demo", sets, store, name, device, jobs, json, no_wait)


@app.command(**about("plan"))
def plan(
    recipe: RecipeArgument,
    sets: Sets = None,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Say what `run` would do: cached, or will run and why, with rough time and disk."""
    console.guard_stdout()
    from embprobe import recipe as recipes
    from embprobe.making import planned
    from embprobe.running import made
    from embprobe.running.forecast import Forecast

    place = Store(store)
    loaded = recipes.load_recipe(recipes.locate(recipe), recipes.assigned(sets or []))
    steps = list(made(loaded, place, partial(planned, store=place)))
    forecast = Forecast(place, [out for _, _, out in steps])
    plans.show_plan([forecast.step(step.label, stage, out) for step, stage, out in steps], json)


@app.command(**about("encoders"))
def encoders(json: JsonOption = False) -> None:
    """List the encoders that have names: source, input size, grid, width, licence, and whether the weights are here."""
    console.guard_stdout()
    listing.show_encoders(json)


# ---- the store


@app.command(**about("ls"))
def list_(
    stages: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[STAGE]...",
            help="only of these stages; all if none is given",
            autocompletion=completion.words(lambda: list(STAGES)),
        ),
    ] = None,
    of: Annotated[
        list[str] | None,
        typer.Option(
            "--of",
            metavar="ARTEFACT",
            help="only what was made from it, and itself",
            autocompletion=completion.artefacts(),
        ),
    ] = None,
    tree: Annotated[bool, typer.Option("--tree", help="each below what it was made from")] = False,
    all: Annotated[bool, typer.Option("--all", help="also the features and measures of evaluations")] = False,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """List the artefacts: what each is called, what it was made from, what tells it from its like, and how far it is."""
    console.guard_stdout()
    place = Store(store).check_there()
    listing.show_list(place, stages or [], of or [], tree=tree, all=all, as_json=json)


@app.command(**about("show"))
def show(
    artefact: ArtefactArgument,
    store: StoreOption = DEFAULT_STORE,
    json: JsonOption = False,
) -> None:
    """Tell everything about an artefact: what it answers, from what, what it holds and measured."""
    console.guard_stdout()
    telling.show_artefact(Store(store)[artefact], json)


@app.command(**about("verify"))
def verify_artefacts(
    artefacts: SomeArtefacts = None,
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


@app.command(**about("rm"))
def rm(
    artefacts: Annotated[
        list[str],
        typer.Argument(
            metavar="ARTEFACT...", help="names, fingerprints or paths", autocompletion=completion.artefacts()
        ),
    ],
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


@app.command(**about("gc"))
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


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="print the version")
    ] = False,
) -> None:
    """Tell what a frozen image encoder keeps and what it throws away, by learning to generate from its embeddings."""
    if context.invoked_subcommand is None:
        console.guard_stdout()
        console.result(first_screen())
