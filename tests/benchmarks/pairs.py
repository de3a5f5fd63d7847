"""Ours and theirs, doing the same work by turns, and the line of a table that says how long each took."""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Timed = dict[str, list[tuple[float, float]]]
"""Wall and processor seconds of each round, by name."""

HEAD = ("line", "embprobe's", "against", "processor time", "wall time", "spread over rounds", "bar", "same work")


@dataclass(frozen=True)
class Sizes:
    """How large everything is, and how often it is done."""

    rounds: int = 7
    images: int = 1000  # of 64 px
    steps: int = 12  # of an optimiser, in a round
    fitted: int = 40  # of a whole training
    sampled: int = 10  # of a sampler
    chunks: int = 6  # of 33 MB, read in a round
    made: int = 2000  # features against features
    real: int = 4000
    width: int = 1024


QUICK = Sizes(3, 256, 4, 10, 8, 2, 500, 1000, 256)


class Disagreement(Exception):
    """What was timed does not do the same work."""


@dataclass(frozen=True)
class Pair:
    """One line: by how much the processor and the wall clock say that ours takes less time; above 1 it is faster."""

    line: str
    what: str
    against: str
    ours: list[tuple[float, float]]
    theirs: list[tuple[float, float]]
    agreement: str  # what was compared, and by how much it differs at most
    bar: float | None = None  # of processor time

    def ratios(self, index: int) -> list[float]:
        """Theirs over ours in each round, of wall (0) or processor seconds (1)."""
        return [b[index] / a[index] for a, b in zip(self.ours, self.theirs, strict=True)]

    def told(self, index: int) -> str:
        """The median ratio, and that of the best times of all rounds."""
        best = min(t[index] for t in self.theirs) / min(t[index] for t in self.ours)
        return f"{statistics.median(self.ratios(index)):.2f} (best {best:.2f})"

    def cells(self) -> tuple[str, ...]:
        spread = "; wall ".join(f"{min(r):.2f}-{max(r):.2f}" for r in map(self.ratios, (1, 0)))
        bar = "" if self.bar is None else f"{self.bar:g}"
        return self.line, self.what, self.against, self.told(1), self.told(0), spread, bar, self.agreement


def in_turns(works: Mapping[str, Callable[[], object]], rounds: int) -> Timed:
    """Wall and processor seconds of each, all threads counted, in random order in every round."""
    times: Timed = {name: [] for name in works}
    for _ in range(rounds):
        for name in random.sample(list(works), len(works)):
            wall, cpu = time.perf_counter(), time.process_time()
            works[name]()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return times


def agree(what: str, ours: object, theirs: object, tolerance: float, scale: float | None = None) -> str:
    """What a line says of its check. Raises Disagreement where numbers differ by more than the tolerance.

    The largest difference, in units of `scale`, else of the largest of theirs.
    """
    a, b = (np.asarray(v, np.float64) for v in (ours, theirs))
    if a.shape != b.shape:
        raise Disagreement(f"{what}: shape {a.shape} against {b.shape}")
    worst = float(np.abs(a - b).max() / (scale or np.abs(b).max()))
    if not worst <= tolerance:
        raise Disagreement(f"{what} differ by {worst:.2g}, more than {tolerance:g}")
    return f"{what} equal" if worst == 0 else f"{what} to {worst:.0e} (at most {tolerance:.0e})"


def markdown(pairs: list[Pair], notes: list[str]) -> str:
    """The table, and what was left out."""
    lines = [HEAD, ("---",) * len(HEAD), *(pair.cells() for pair in pairs)]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return "\n".join([table, *(f"\n{note}" for note in notes)]) + "\n"


Line = Callable[[Sizes, Path], Iterator[Pair | str]]
"""Measures in a folder; yields pairs, and in words what it leaves out."""
