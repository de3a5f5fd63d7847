"""From the steps of a recipe to artefacts."""

import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path

from embprobe import console
from embprobe.errors import EmbprobeError, Interrupted, UserError
from embprobe.making import make
from embprobe.options import build
from embprobe.recipe import Placed, Recipe, Ref, Step, Value, load_recipe, locate
from embprobe.stage import Make, Stage
from embprobe.stages import INGEST
from embprobe.store import Artefact, Store


def _options(step: Step, artefacts: dict[int, Artefact]) -> dict[str, Value]:
    hints = typing.get_type_hints(step.cls)
    known = {f.name: f for f in fields(step.cls)}

    def settle(key: str, value: Value) -> Value:
        if isinstance(value, Ref):
            return artefacts[value.index]
        if isinstance(value, list):
            return [settle(key, v) for v in value]
        if isinstance(value, Placed) and key in known and not Path(value).is_absolute():
            hint, beside = hints[key], value.base / value
            if hint is Path or Path in typing.get_args(hint):
                return str(beside)
            if (known[key].metadata["path"] or "ingest" in known[key].metadata["made_by"]) and (
                "/" in value or beside.exists()
            ):
                return str(beside)
        return value

    return {k: settle(k, v) for k, v in step.options.items()}


def _needs(value: Value) -> Iterator[int]:
    if isinstance(value, Ref):
        yield value.index
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _needs(item)


def _put_off(recipe: Recipe) -> set[int]:
    """Steps that nothing needs made: others compute what they need of them `through`."""
    uses: dict[int, list[bool]] = {}
    for step in recipe.steps:
        through = str(step.options.get("through", False)).lower() in ("true", "yes", "1")
        for key, value in step.options.items():
            for index in _needs(value):
                uses.setdefault(index, []).append(through and key == "embeddings")
    return {index for index, found in uses.items() if all(found)}


def made(recipe: Recipe, store: Store, make: Make, device: str | None = None) -> Iterator[tuple[Step, Stage, Artefact]]:
    """Each step with its stage and artefact, made in order by `make`, on `device` where the recipe names none.

    A step that fails does not stop those that don't need it; when all that can be done is done, its error is raised.
    """
    artefacts: dict[int, Artefact] = {}
    put_off = _put_off(recipe)
    worst: EmbprobeError | None = None
    skipped = 0
    for index, step in enumerate(recipe.steps):
        if any(i not in artefacts for value in step.options.values() for i in _needs(value)):
            skipped += 1
            continue
        try:
            if step.unset:
                raise UserError(step.unset)
            options = ({"device": device} if device else {}) | _options(step, artefacts)
            options |= {"later": "true"} if index in put_off else {}
            stage = build(step.cls, options, store, make, ingest=INGEST)
            artefacts[index] = make(stage)
            yield step, stage, artefacts[index]
        except Interrupted:
            raise
        except EmbprobeError as error:
            error.args = (f"{step.label}: {error}",)
            if worst is not None:
                console.fail(str(worst))
            worst = max(worst or error, error, key=lambda e: e.exit_code)
    if skipped:
        console.say(f"{skipped} step{'s' * (skipped > 1)} left out, needing what failed")
    if worst is not None:
        raise worst


def run(
    recipe: str | Path,
    store: Store,
    values: Mapping[str, Value] | None = None,
    /,
    *,
    device: str | None = None,
    wait: bool = True,
    **more: Value,
) -> Artefact:
    """Makes everything a recipe asks for; the last step's artefact.

    `recipe` is a YAML file or the name of one that ships with embprobe; `values`, and `more` by name, take the place of
    its `set`. Raises the worst of what failing steps raised.
    """
    loaded = load_recipe(locate(str(recipe)), {**(values or {}), **more})
    if not loaded.steps:
        raise UserError(f"{loaded.path} has no steps; add some")
    for number, (step, _, artefact) in enumerate(made(loaded, store, partial(make, store=store, wait=wait), device), 1):
        console.say(f"[{number}/{len(loaded.steps)}] {step.label} {artefact.short}")
    return artefact
