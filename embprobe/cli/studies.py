"""Whole studies: a recipe made, continued or foretold."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from embprobe import console, signals
from embprobe.cli import completion
from embprobe.cli.stages import DEFAULT_STORE, JsonOption, NameOption, NoWait, StoreOption, command_of, print_made
from embprobe.inspection import plans, telling
from embprobe.running import comparing
from embprobe.stage import Stage
from embprobe.store import Artefact, Store

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
    from embprobe.running import jobs_of, run

    place = Store(store)
    if name is not None:
        place.check_name(name)
    last = run(recipe, place, assigned(sets or []), device=device, jobs=jobs_of(jobs), wait=not no_wait)
    telling.show_tables(last)
    print_made(last, place, name, json)


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


def made_of(asked: Stage, store: Store, wait: bool) -> Artefact:
    """What `compare` makes; its table goes to stderr."""
    report = comparing.compare(**asked.given(), store=store, wait=wait)  # type: ignore[attr-defined]
    telling.show_tables(report)
    return report


compare = command_of(comparing.Compare, made_of)
