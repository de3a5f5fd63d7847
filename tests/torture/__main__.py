"""The torture suite, whole: `python -m tests.torture --store FOLDER` prints its figures as JSON; exits 3 if any is wrong."""

import argparse
import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

from tests.torture import crashes, damage, hostile
from tests.torture.crashes import Job, Trial
from tests.torture.zoo import shrink


def kills(root: Path, each: int, cuts: int, seed: int, workers: int) -> dict[str, Any]:
    """Figures of the kills and of the cuts of power, `each` and `cuts` of them at points of every job."""
    jobs = crashes.jobs(root)
    tasks = [("kill", n, point) for n, job in enumerate(jobs) for point in crashes.chosen(job, each, seed)]
    tasks += [("cut", n, point) for n, job in enumerate(jobs) for point in crashes.chosen_late(job, cuts, seed + 1)]
    with multiprocessing.get_context("fork").Pool(workers, _know, (jobs, root, seed)) as pool:
        trials = pool.map(_trial, tasks, chunksize=4)
    kinds = [kind for kind, _, _ in tasks]
    kill, cut = ([t for t, k in zip(trials, kinds, strict=True) if k == kind] for kind in ("kill", "cut"))
    points = {job.name: job.points for job in jobs}
    return {"points": points, "kills": crashes.tally(kill), "power cuts": crashes.tally(cut)}


_known: tuple[list[Job], Path, int]


def _know(*known: Any) -> None:
    """What a worker needs, which no pipe could carry."""
    global _known
    _known = known  # type: ignore[assignment]


def _trial(task: tuple[str, int, int]) -> Trial:
    jobs, root, seed = _known
    kind, number, point = task
    folder = root / f"{kind} {number} {point}"
    if kind == "kill":
        return crashes.killed(jobs[number], point, folder)
    return crashes.cut_off(jobs[number], point, folder, seed)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--store", type=Path, required=True, help="an empty folder")
    parser.add_argument("--kills", type=int, default=80, help="of every stage and command")
    parser.add_argument("--cuts", type=int, default=15, help="of the power, in every stage and command")
    parser.add_argument("--damages", type=int, default=600, help="of files of every kind")
    parser.add_argument("--traps", type=int, default=250, help="in hostile stores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    for part in ("kills", "damages", "traps"):
        (given.store / part).mkdir(parents=True)
    shrink()
    figures = kills(given.store / "kills", given.kills, given.cuts, given.seed, given.workers)
    figures["damages"] = damage.study(given.store / "damages", given.damages, given.seed)
    figures["traps"] = hostile.study(given.store / "traps", given.traps, given.seed)
    sys.stdout.write(json.dumps(figures, indent=1) + "\n")
    sys.exit(3 if any(figures[part]["wrong"] for part in ("kills", "power cuts", "damages", "traps")) else 0)
