"""Independent branches of a recipe side by side: each step in a process of its own, as soon as what it needs is made."""

import time
from collections.abc import Iterator
from functools import partial

from embprobe import signals
from embprobe.errors import EmbprobeError, Interrupted
from embprobe.making import make, planned
from embprobe.options import build
from embprobe.recipe import Recipe, Value
from embprobe.running.outcome import Outcome, Reached, ingested, needs
from embprobe.running.workers import Failed, Workers
from embprobe.stage import Stage
from embprobe.stages import INGEST
from embprobe.store import Artefact, Store


def side_by_side(recipe: Recipe, store: Store, jobs: int, device: str | None, *, wait: bool) -> Iterator[Reached]:
    """The steps as they are made, up to `jobs` at once; failures count as in order.

    Raises Interrupted where a signal came, after the workers have saved what they had.
    """
    outcome, todo, held = Outcome(recipe), list(range(len(recipe.steps))), dict[int, Interrupted]()
    with Workers(jobs, len(recipe.steps)) as workers:
        while True:
            signals.check()
            ready = [index for index in todo if outcome.ready(index) and index not in held]
            for index in ready[: workers.free]:
                began = time.monotonic()
                todo.remove(index)
                try:
                    options = outcome.options(index, device)
                    there = _made_before(recipe.steps[index].cls, options, store)
                except EmbprobeError as error:
                    outcome.fail(index, error)
                    continue
                if there is None:
                    workers.ask(index, recipe.steps[index].cls, options, store, wait=wait)
                    continue
                outcome.artefacts[index] = there
                yield Reached(index, there, time.monotonic() - began)
            if ready and workers.free:
                continue  # what was there already, or failed at once, left room for more
            if not workers.busy:
                if held:
                    raise held.popitem()[1]
                break
            for answer in workers.answers():
                index, result = answer.index, answer.result
                if isinstance(result, Failed) and isinstance(result.error, Interrupted):
                    held[index] = result.error  # somebody else makes the same: one of us, perhaps
                    todo.append(index)
                    continue
                held.clear()
                if isinstance(result, Failed):
                    outcome.fail(index, result.error)
                    continue
                outcome.artefacts[index] = store[result]
                yield Reached(index, outcome.artefacts[index], answer.seconds)
    outcome.end()


def widest(recipe: Recipe) -> int:
    """How many steps there are at most that need equally long chains of others."""
    depths: list[int] = []
    for step in recipe.steps:
        depths.append(1 + max((depths[index] for index in needs(step)), default=0))
    return max(map(depths.count, depths), default=1)


def _made_before(cls: type[Stage], options: dict[str, Value], store: Store) -> Artefact | None:
    """The step's artefact where it is complete; what can't be told from here is left to a worker."""
    known = ingested(cls, options, store)
    if known is not None:
        return known
    try:
        stage = build(cls, options, store, partial(planned, store=store), ingest=INGEST)
        return make(stage, store) if planned(stage, store).complete else None
    except EmbprobeError:
        return None
