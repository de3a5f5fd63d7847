"""From the steps of a recipe to artefacts: one after the other, or independent branches side by side."""

import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from embprobe import console, threads
from embprobe.errors import DamagedError, EmbprobeError, Interrupted, MissingInput, UserError
from embprobe.making import make, planned
from embprobe.options import build
from embprobe.recipe import Recipe, Step, Value, load_recipe, locate
from embprobe.running.branches import side_by_side, widest
from embprobe.running.journal import Journal
from embprobe.running.outcome import Outcome, Reached, ingested
from embprobe.stage import Make, Stage
from embprobe.stages import INGEST
from embprobe.store import Artefact, Store

MOST_JOBS = 256
USUAL_JOBS = 4  # at most, unasked: each holds memory of its own
GPUS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")  # where one is, branches would share it


def made(recipe: Recipe, store: Store, make: Make, device: str | None = None) -> Iterator[tuple[Step, Stage, Artefact]]:
    """Each step with its stage and artefact, made in order by `make`, on `device` where the recipe names none.

    A step that fails does not stop those that don't need it; when all that can be done is done, its error is raised.
    """
    outcome = Outcome(recipe)
    for index, step in enumerate(recipe.steps):
        if not outcome.ready(index):
            continue
        try:
            options = outcome.options(index, device)
            known = ingested(step.cls, options, store)
            stage = build(step.cls, known.options if known else options, store, make, ingest=INGEST)
            outcome.artefacts[index] = known or make(stage)
            yield step, stage, outcome.artefacts[index]
        except Interrupted:
            raise
        except EmbprobeError as error:
            outcome.fail(index, error)
    outcome.end()


def run(
    recipe: str | Path,
    store: Store,
    values: Mapping[str, Value] | None = None,
    /,
    *,
    device: str | None = None,
    wait: bool = True,
    jobs: int | None = 1,
    **more: Value,
) -> Artefact:
    """Makes everything a recipe asks for; the last step's artefact.

    `recipe` is a YAML file or the name of one that ships with embprobe; `values`, and `more` by name, take the place of
    its `set`. Up to `jobs` steps that don't need each other are made at once, in processes of their own that share the
    cores and hold memory each; None chooses. Raises the worst of what failing steps raised.
    """
    loaded = load_recipe(locate(str(recipe)), {**(values or {}), **more})
    if not loaded.steps:
        raise UserError(f"{loaded.path} has no steps; add some")
    jobs = usual_jobs(loaded, device) if jobs is None else jobs
    with console.quiet():
        journal = Journal(loaded, store, foreseeable(loaded, store, device), jobs)
    journal.begin()
    reached = (
        side_by_side(loaded, store, jobs, device, wait=wait) if jobs > 1 else _in_order(loaded, store, device, wait)
    )
    artefacts = {}
    for step in reached:
        artefacts[step.index] = step.artefact
        journal.reached(step)
    return artefacts[len(loaded.steps) - 1]


def foreseeable(recipe: Recipe, store: Store, device: str | None = None) -> dict[int, tuple[Stage, Artefact]]:
    """What each step asks for, before anything is made; without those that can't be told yet.

    Raises UserError where a step can't be made as it is asked for, whatever is made before it.
    """
    outcome = Outcome(recipe)
    asked: dict[int, tuple[Stage, Artefact]] = {}
    for index, step in enumerate(recipe.steps):
        if not outcome.ready(index):
            continue
        try:
            foresee, options = partial(planned, store=store), outcome.options(index, device)
            known = ingested(step.cls, options, store)
            stage = build(step.cls, known.options if known else options, store, foresee, ingest=INGEST)
            stage = stage if known else stage.prepare(foresee, download=False)
            out = known or store.open(stage)
            if not out.complete and all(a.complete for a in stage.needed().values()):
                stage.check()
            outcome.artefacts[index] = out
            asked[index] = (stage, outcome.artefacts[index])
        except (MissingInput, DamagedError):
            continue  # may be there by then; what is damaged is told when its turn comes
        except UserError as error:
            outcome.fail(index, error)
    if outcome.worst is not None:
        raise UserError(f"{outcome.said(outcome.worst)}; nothing was made")
    return asked


def jobs_of(word: str) -> int | None:
    """A number of jobs; None for `auto`. Raises UserError."""
    if word == "auto":
        return None
    if not (word.isdecimal() and 1 <= int(word[:6]) <= MOST_JOBS):
        raise UserError(f"--jobs is {word!r}; give a number from 1 to {MOST_JOBS}, or auto")
    return int(word)


def usual_jobs(recipe: Recipe, device: str | None) -> int:
    """One where a GPU does the work or nothing can be done side by side; else one a core, but not many."""
    if device not in (None, "auto", "cpu") or (device != "cpu" and any(Path(gpu).exists() for gpu in GPUS)):
        return 1
    asked = threads.said_by_user() or ""
    cores = threads.usable_cores() // (int(asked) if asked.isdecimal() and int(asked) else 1)
    return max(1, min(USUAL_JOBS, cores, widest(recipe)))


def _in_order(recipe: Recipe, store: Store, device: str | None, wait: bool) -> Iterator[Reached]:
    places = {id(step): index for index, step in enumerate(recipe.steps)}
    began = time.monotonic()
    for step, _, artefact in made(recipe, store, partial(make, store=store, wait=wait), device):
        yield Reached(places[id(step)], artefact, time.monotonic() - began)
        began = time.monotonic()
