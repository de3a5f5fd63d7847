"""Whether a conclusion can rest on a row at all: what is noise, unfinished, copied or judged by nobody wins nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.table import METRIC
from embprobe.store import Json
from embprobe.study.chance import LEVEL

OFF = 0.1  # of what real images get: less of precision, or of coverage, is next to nothing
NEAR_CHANCE = 0.1  # of the way from chance to certainty that a judge must get beyond
SUSPICIOUS = 0.01  # p of the test for copies


def judge_knows(accuracy: float | None, classes: int) -> bool:
    """Whether a judge tells classes apart better than by chance, as far as is known."""
    if accuracy is None or classes < 2:
        return True
    chance = 1 / classes
    return (accuracy - chance) / (1 - chance) >= NEAR_CHANCE


@dataclass(frozen=True)
class Judged:
    """Figures after some epochs of training, of so many samples."""

    epochs: float
    count: int
    values: Mapping[str, Estimate]


def shortcomings(now: Judged, earlier: Sequence[Judged], classes: int) -> tuple[str, ...]:
    """Why samples can't be concluded from, in words; `earlier`: the same training's milestones."""
    values = now.values
    said = [_gaussian(values), _off(values, "precision"), _off(values, "coverage"), _asked(values, classes)]
    said.append(_falling(now, earlier))
    return tuple(words for words in said if words)


def _gaussian(values: Mapping[str, Estimate]) -> str:
    """No better than latents drawn without the denoiser."""
    mine, control = values.get("fd"), values.get("gaussian_fd")
    if mine is None or control is None or falls(control, mine, paired=True):
        return ""
    name = METRIC["fd"].text
    return f"its FD ({name(mine.value)}) is not below that of latents drawn without a denoiser ({name(control.value)})"


def _off(values: Mapping[str, Estimate], key: str) -> str:
    """Off the manifold, or reaching next to none of it."""
    mine, column = values.get(key), METRIC[key]
    floor = mine.floor if mine is not None else None
    if mine is None or floor is None or mine.high is None or mine.high >= OFF * floor.value:
        return ""
    words = {"precision": "it lies off the manifold of real images", "coverage": "it reaches next to no real images"}
    return f"{words[key]} ({column.name} {column.text(mine.value)}, real ones {column.text(floor.value)})"


def _asked(values: Mapping[str, Estimate], classes: int) -> str:
    """Of the class asked for no more often than by chance."""
    mine = values.get("asked_class")
    if mine is None or mine.low is None or classes < 2 or mine.low > 1 / classes:
        return ""
    return f"it is of the class asked for no more often than by chance ({mine.value:.3f} of {1 / classes:.3f})"


def _falling(now: Judged, earlier: Sequence[Judged]) -> str:
    """Better by more than chance than at the last milestone that was judged."""
    if not earlier:
        return ""
    before = max(earlier, key=lambda point: point.epochs)
    for column in (METRIC["fd"], METRIC["kid"]):
        mine, theirs = now.values.get(column.key), before.values.get(column.key)
        if mine is None or theirs is None or (before.count != now.count and not column.any_count):
            continue
        if not falls(theirs, mine, paired=before.count == now.count):
            return ""
        fell = f"{column.name} fell from {column.text(theirs.value)} to {column.text(mine.value)}"
        return f"it is still improving ({fell} between {before.epochs:.3g} and {now.epochs:.3g} epochs)"
    return ""


def falls(before: Estimate, after: Estimate, *, paired: bool) -> bool:
    """Whether a figure is lower by more than the choice of images explains; `paired`: of the same reference."""
    from embprobe.metrics.intervals import sampling, two_tailed

    if before.spread is None or after.spread is None:
        return after.value < before.value
    variance, freedom = sampling(before.spread, after.spread, paired=paired)
    return after.value < before.value and two_tailed(after.value - before.value, variance, freedom) < LEVEL


def copied(tests: Mapping[str, Json]) -> str:
    """What the search for copies warns of, over its spaces; nothing where it doesn't."""
    found = {space: test for space, test in tests.items() if test and warned(test)}
    if not found:
        return ""
    most = max(found, key=lambda space: found[space].get("low") or 0.0)
    low, share = found[most].get("low") or 0.0, found[most].get("share") or 0.0
    said = f"at least {100 * low:.1f} % of its samples (found: {100 * share:.1f} %) are copies of training images"
    return (
        f"it copies: {said}" if low > 0 else "it copies: its samples lie nearer to training images than chance explains"
    )


PLAIN = {  # what a reason says, and what it means to one who knows no metric
    "is not below that of latents drawn without": "are no better than images drawn without any learning",
    "lies off the manifold": "look like no real images",
    "reaches next to no real images": "leave out nearly all that real images show",
    "of the class asked for no more often": "show the class asked for no more often than by chance",
    "still improving": "still get better with every epoch",
    "it copies": "copy training images",
}


def plainly(why: str) -> str:
    """A reason why no conclusion can rest on samples, as what they do."""
    return next((plain for words, plain in PLAIN.items() if words in why), f"fall short: {why}")


def warned(test: Json) -> bool:
    """Whether a search for copies found more than chance explains."""
    told = test.get("warned")
    return bool(test.get("p", 1.0) < SUSPICIOUS if told is None else told)
