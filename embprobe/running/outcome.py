"""What has come of a recipe's steps so far: what is made, what failed, and which may be made next."""

import typing
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path

from embprobe import console
from embprobe.errors import EmbprobeError, UserError
from embprobe.recipe import Placed, Recipe, Ref, Step, Value
from embprobe.stage import Stage
from embprobe.stages import INGEST
from embprobe.store import Artefact, Store


@dataclass(frozen=True)
class Reached:
    """A step that is made."""

    index: int
    artefact: Artefact
    seconds: float


@dataclass
class Outcome:
    """Artefacts by step, and the worst that happened."""

    recipe: Recipe
    artefacts: dict[int, Artefact] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)
    worst: EmbprobeError | None = None
    errors: dict[str, list[str]] = field(default_factory=dict)  # the labels of the steps that failed so

    def ready(self, index: int) -> bool:
        """Whether all that a step needs is made."""
        return needs(self.recipe.steps[index]) <= self.artefacts.keys()

    def options(self, index: int, device: str | None) -> dict[str, Value]:
        """A step's options with artefacts for references and paths that start where the recipe lies.

        Raises UserError where the recipe wants a value that was not given.
        """
        step = self.recipe.steps[index]
        if step.unset:
            raise UserError(step.unset)
        later = {"later": "true"} if index in self.put_off else {}
        return ({"device": device} if device else {}) | _settled(step, self.artefacts) | later

    @cached_property
    def put_off(self) -> set[int]:
        """Steps that nothing needs made: others compute what they need of them `through`."""
        uses: dict[int, list[bool]] = {}
        for step in self.recipe.steps:
            through = str(step.options.get("through", False)).lower() in ("true", "yes", "1")
            for key, value in step.options.items():
                for index in _references(value):
                    uses.setdefault(index, []).append(through and key == "embeddings")
        return {index for index, found in uses.items() if all(found)}

    def fail(self, index: int, error: EmbprobeError) -> None:
        """Takes note of a step's error; all but the worst are told at once, and one that several have once."""
        self.failed.add(index)
        known = self.errors.setdefault(str(error), [])
        known.append(self.recipe.steps[index].label)
        if len(known) > 1:
            return
        if self.worst is not None and error.exit_code > self.worst.exit_code:
            console.fail(self.said(self.worst))
        elif self.worst is not None:
            console.fail(self.said(error))
            return
        self.worst = error

    def said(self, error: EmbprobeError) -> str:
        """An error with the steps that it is of."""
        labels = self.errors[str(error)]
        more = f" and {len(labels) - 1} more step{'s' * (len(labels) > 2)}" if len(labels) > 1 else ""
        return f"{labels[0]}{more}: {error}"

    def end(self) -> None:
        """Raises the worst error, which tells how many steps were left out for failures too."""
        left = len(self.recipe.steps) - len(self.artefacts) - len(self.failed)
        if self.worst is not None:
            needing = f" ({left} step{'s' * (left > 1)} left out, needing what failed)" if left else ""
            self.worst.args = (self.said(self.worst) + needing, *self.worst.args[1:])
            raise self.worst


def ingested(cls: type[Stage], options: dict[str, Value], store: Store) -> Artefact | None:
    """The data set that an `ingest` step means by its name, where nothing else is called so; None for other steps.

    Raises UserError where it was ingested at another size than the step asks for.
    """
    word = options.get("source")
    if cls is not INGEST or not isinstance(word, str) or Path(word).exists() or word == "planted":
        return None
    found = store.lookup(Path(word).name if isinstance(word, Placed) else word)
    if found is None or found.stage != cls.name() or not found.complete:
        return None
    size, held = options.get("size"), found.metrics["size"]
    if size is not None and held != size:
        raise UserError(
            f"{word} was ingested at {held} px, and the recipe asks for {size}; --set size={held}, or ingest anew"
        )
    return found


def needs(step: Step) -> set[int]:
    """The steps whose artefacts a step takes."""
    return {index for value in step.options.values() for index in _references(value)}


def _references(value: Value) -> Iterator[int]:
    if isinstance(value, Ref):
        yield value.index
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _references(item)


def _settled(step: Step, artefacts: dict[int, Artefact]) -> dict[str, Value]:
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
