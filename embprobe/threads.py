"""How many threads the numerical libraries start, and how they wait: settled before any of them is loaded."""

import os
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path, PurePosixPath

CGROUPS = "/sys/fs/cgroup"
NUMBER, WAITING, SPINNING = "OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"

Texts = Callable[[str], str | None]  # what a file holds, by its path; None where there is none


_filled_in: set[str] = set()


def settle(environment: MutableMapping[str, str]) -> None:
    """Fills in what the user has not said: as many threads as there are cores for us, which sleep while they wait.

    A thread that spins while it waits for one that lost its core takes that core's time too: beside other work two such
    threads are slower than one. For a command line only; a program that imports embprobe keeps its environment.
    """
    if not environment.get(NUMBER):
        environment[NUMBER] = str(usable_cores())
        _filled_in.add(NUMBER)
    if not environment.get(SPINNING):  # says the same, and more
        environment.setdefault(WAITING, "passive")


def said_by_user() -> str | None:
    """What the user said about the number of threads."""
    return None if NUMBER in _filled_in else os.environ.get(NUMBER) or None


def usable_cores() -> int:
    """Cores that this process may keep busy: by its affinity, its cgroup's quota, and its Slurm task."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores_within(affinity, _text, os.environ.get("SLURM_CPUS_PER_TASK"))


def cores_within(affinity: int, texts: Texts, slurm: str | None) -> int:
    """The least of what limits the cores, at least 1; part of a core counts for nothing."""
    limits = [float(affinity), *quotas(texts)]
    if slurm is not None and slurm.isdecimal():
        limits.append(int(slurm))
    return max(1, int(min(limits)))


def quotas(texts: Texts) -> Iterator[float]:
    """CPU quotas, in cores, of this process's cgroup and all above it, of either version."""
    for line in (texts("/proc/self/cgroup") or "").splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if not controllers:
            folders, parse = [CGROUPS, f"{CGROUPS}/unified"], _version_2
        elif "cpu" in controllers.split(","):
            folders, parse = [f"{CGROUPS}/{name}" for name in (controllers, "cpu")], _version_1
        else:
            continue
        group = PurePosixPath(path.strip("/"))  # in a container it may name a place outside, and the top is our own
        for folder in folders:
            for above in (group, *group.parents):
                quota = parse(str(PurePosixPath(folder, above)), texts)
                if quota is not None:
                    yield quota


def _version_2(folder: str, texts: Texts) -> float | None:
    return _share(*(texts(f"{folder}/cpu.max") or "").split()[:2])


def _version_1(folder: str, texts: Texts) -> float | None:
    names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    return _share(*(word.strip() for word in map(texts, (f"{folder}/{name}" for name in names)) if word))


def _share(quota: str = "", period: str = "") -> float | None:
    """Quota over period; None where it is `max`, -1 or not told."""
    whole = quota.isdecimal() and period.isdecimal() and int(period) > 0
    return int(quota) / int(period) if whole else None


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text()
    except (OSError, UnicodeDecodeError):
        return None
