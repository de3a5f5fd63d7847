"""What `run` says on the way: of each step whether it was there, made or continued, why, how long, and what is left."""

from embprobe import console
from embprobe.recipe import Recipe
from embprobe.running.forecast import Forecast, Foreseen, total_of
from embprobe.running.outcome import Reached
from embprobe.stage import Stage
from embprobe.store import Artefact, Store

Asked = tuple[Stage, Artefact, Foreseen]


class Journal:
    """The steps of a recipe as they were foreseen, and as they come out; times are corrected by those that came out."""

    def __init__(self, recipe: Recipe, store: Store, asked: dict[int, tuple[Stage, Artefact]], jobs: int) -> None:
        self.recipe, self.jobs = recipe, jobs
        self.forecast = Forecast(store, [out for _, out in asked.values()])
        self.asked: dict[int, Asked] = {
            index: (stage, out, self.forecast.step(recipe.steps[index].label, stage, out))
            for index, (stage, out) in asked.items()
        }
        self.taken, self.told = 0.0, 0.0  # seconds of steps that were made, and what had been told of them

    def begin(self) -> None:
        """Says how much there is to do."""
        unknown = len(self.recipe.steps) - len(self.asked)
        more = f", {unknown} that can't be told yet" if unknown else ""
        console.say(f"{len(self.recipe.steps)} steps: {total_of([f for *_, f in self.asked.values()])}{more}")

    def reached(self, step: Reached) -> None:
        """Says what came of a step."""
        index, artefact = step.index, step.artefact
        name, total = self.recipe.steps[index].label, len(self.recipe.steps)
        *_, foreseen = self.asked.pop(index, (None, None, None))
        gist = self.forecast.naming.gist(artefact)
        if foreseen is not None and foreseen.state == "cached":
            how = "cached"
        elif not artefact.complete:
            how = "only asked for, and computed as it is needed"
        else:
            self.forecast.learn(artefact)
            if foreseen is not None and foreseen.seconds:
                self.taken, self.told = self.taken + step.seconds, self.told + foreseen.seconds
            how = f"made in {console.duration(step.seconds)}"
            if foreseen is not None and foreseen.state == "will continue":
                how = f"continued in {console.duration(step.seconds)}, {foreseen.why}"
            elif foreseen is not None and foreseen.why.startswith("unlike"):
                how += f", {foreseen.why}"
        console.say(f"[{index + 1}/{total}] {name} {artefact.short} ({gist}): {how}{self.left()}")

    def left(self) -> str:
        """How long the rest takes, in words; nothing where there is none."""
        todo = [self._again(*asked) for asked in self.asked.values()]
        todo = [f for f in todo if f.state not in ("cached", "not made")]
        if not todo:
            return ""
        pace = self.taken / self.told if self.told else 1.0
        seconds = sum(f.seconds or 0 for f in todo) * pace / self.jobs
        unknown = sum(f.seconds is None for f in todo)
        words = [f"about {console.duration(seconds)}"] if seconds else []
        words += [f"{unknown} step{'s' * (unknown > 1)} of unknown length"] if unknown else []
        return f"; left: {' and '.join(words)}"

    def _again(self, stage: Stage, out: Artefact, foreseen: Foreseen) -> Foreseen:
        """What is foreseen of a step, told anew where it could not be told before."""
        if foreseen.seconds is not None or foreseen.state in ("cached", "not made"):
            return foreseen
        return self.forecast.step(foreseen.step, stage, out)
