"""Every stage, repair, rm and gc, killed or cut off at counted calls to the disk, and asked again."""

import random
import shutil
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pickle import loads

from embprobe.making import make
from embprobe.stage import Stage
from embprobe.store import Artefact, Store, mending, removal
from tests.torture.layer import Layer
from tests.torture.power import Disk, loaded
from tests.torture.zoo import STAGES, Made, artefacts_in, command, content, copied, fill, forked

Names = dict[str, tuple[str, str]]


LATE = 16  # calls before the end of a job in which it commits


@dataclass(frozen=True)
class Job:
    """Something done to a store, which is as `base` before."""

    name: str
    base: Store
    act: Callable[[Store], int | None]
    before: dict[str, str]  # what the store holds
    whole: dict[str, str]  # and after, if nothing comes between
    points: int


def jobs(root: Path, only: Collection[str] = ()) -> list[Job]:
    """A job for every stage, and for each command that mends or removes; or some of them."""
    zoo = Store(root / "zoo")
    names = fill(zoo)
    found = []
    for name, build in STAGES.items():
        if only and name not in only:
            continue
        base = copied(zoo, root / f"before {name}")
        later = list(STAGES)[list(STAGES).index(name) :]
        for artefact in {a.path: a for n, a in artefacts_in(base, names).items() if n in later}.values():
            shutil.rmtree(artefact.path)
        found.append(_job(root, name, base, partial(_make, build, names)))
    for name, prepare, words in (
        ("repair", _damage, ("verify", "--repair")),
        ("repair anew", _lose_a_milestone, ("verify", "--repair", "--anew")),
        ("rm", _nothing, ("rm", "--recursive", "--yes", names["compress"][1])),
        ("gc", _litter, ("gc", "--yes")),
    ):
        if only and name not in only:
            continue
        base = copied(zoo, root / f"before {name}")
        prepare(artefacts_in(base, names))
        found.append(_job(root, name, base, partial(_command, words)))
    return found


def _job(root: Path, name: str, base: Store, act: Callable[[Store], int | None]) -> Job:
    store, told = copied(base, root / "whole"), root / "points"

    def counted() -> int | None:
        layer = Layer()
        layer.install()
        code = act(store)
        told.write_text(str(layer.points))
        return code

    end = forked(counted)
    if end.code or not told.exists():
        raise SystemExit(f"{name} failed: {end.said}")
    job = Job(name, base, act, content(base.root), content(store.root), int(told.read_text()))
    shutil.rmtree(store.root)
    told.unlink()
    return job


def _make(build: Callable[[Made], Stage], names: Names, store: Store) -> None:
    make(build(artefacts_in(store, names)), store)


def _command(words: tuple[str, ...], store: Store) -> int:
    try:
        command(*words, "--store", store.root)()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def _nothing(made: Made) -> None:
    pass


def flip(path: Path, at: int) -> None:
    """One bit of a file."""
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1
    path.write_bytes(data)


def _damage(made: Made) -> None:
    flip(made["ingest"].path / made["ingest"].array("images").file(2), 99)
    (made["compress"].path / "weights.safetensors").unlink()
    flip(made["diffuse"].path / "spec.json", 40)
    flip(made["decode"].path / "checksums.xxh128", 7)
    flip(made["classify"].path / "manifest.json", 300)
    flip(made["sample"].path / made["sample"].array("latents").file(1), 5)
    flip(made["evaluate"].path / "metrics.json", 20)


def _lose_a_milestone(made: Made) -> None:
    next((made["diffuse"].path / "milestones").glob("*3.safetensors")).unlink()


def _litter(made: Made) -> None:
    for name in (".tmp", "checkpoints"):
        (made["diffuse"].path / name).mkdir()
        (made["diffuse"].path / name / "1.2").write_bytes(b"x" * 99)
    (made["extract"].path / "data.zarr" / ".0.123.456.part").write_bytes(b"x")
    (made["extract"].path / "data.zarr" / "zarr.json.12ab.partial").write_bytes(b"x")
    (made["extract"].path / "manifest.before.json").write_bytes(b"{}")
    asked = made["ingest"].path.with_name("0" * 32)
    asked.mkdir()
    shutil.copy(made["ingest"].path / "spec.json", asked)
    shutil.copytree(made["compress"].path, made["compress"].path.with_name(f"{removal.GONE}{'1' * 32}"))
    (made["ingest"].root / "names").mkdir()
    (made["ingest"].root / "names" / "old").symlink_to(f"../ingest/{'2' * 32}")


# ---- trials


@dataclass(frozen=True)
class Trial:
    """What came of one kill."""

    job: str
    point: int
    outcome: str  # equal, or what was wrong
    litter: bool = False  # gc had something to do
    said: str = ""


def killed(job: Job, point: int, root: Path) -> Trial:
    """Dies at a point of the job; the job is asked again."""
    store = copied(job.base, root)
    try:
        forked(partial(_dying, job, store, point, None))
        return _again(job, point, store)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def cut_off(job: Job, point: int, root: Path, seed: int) -> Trial:
    """The power goes at a point of the job, and with it what was not flushed; the job is asked again."""
    store, record, left = copied(job.base, root / "now"), root / "calls", root / "left"
    try:
        tree = loaded(store.root)
        forked(partial(_dying, job, store, point, record))
        if not record.exists():
            return Trial(job.name, point, "not killed")
        disk = Disk(store.root, tree)
        for call in loads(record.read_bytes()):
            disk.replay(*call)
        disk.cut(left, random.Random(f"{seed} {job.name} {point}"))
        return _again(job, point, Store(left))
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _dying(job: Job, store: Store, point: int, record: Path | None) -> int | None:
    layer = Layer(point, record)
    layer.install()
    code = job.act(store)
    layer.end()
    return code


def _again(job: Job, point: int, store: Store) -> Trial:
    """Is anything called made that is not whole; does the next ask end it; does gc leave nothing?"""
    now = content(store.root)
    half = [a for a in store.artefacts() if a.complete and _unlike(a, now, job) and not mending.damage(a)]
    if half:
        return Trial(job.name, point, f"half-made looks made: {half}")
    end = forked(partial(job.act, store))
    if not end.clean or (end.code and job.name != "rm"):
        return Trial(job.name, point, "stuck", said=end.said[-2000:])
    first = content(store.root)
    if first == job.whole:
        return Trial(job.name, point, "equal")
    end = forked(command("gc", "--yes", "--store", store.root))
    left = content(store.root)
    if left == job.whole:
        return Trial(job.name, point, "equal", litter=True)
    names = sorted(n for n in left.keys() | job.whole.keys() if left.get(n) != job.whole.get(n))
    return Trial(job.name, point, f"unlike: {names[:5]}", said=end.said[-500:])


def _unlike(artefact: Artefact, now: dict[str, str], job: Job) -> bool:
    """Whether an artefact lacks anything that it held before, and of what it should hold after."""
    below = f"{artefact.stage}/{artefact.fingerprint}/"
    known = [{n: v for n, v in held.items() if n.startswith(below)} for held in (job.whole, job.before)]
    return not any(all(now.get(n) == v for n, v in held.items()) for held in known if held)


def chosen(job: Job, count: int, seed: int) -> list[int]:
    """Points of a job, spread over it."""
    draw = random.Random(f"{seed} {job.name}")
    return sorted(draw.sample(range(1, job.points + 1), min(count, job.points)))


def chosen_late(job: Job, count: int, seed: int) -> list[int]:
    """Points of a job, half of them near its end, where it commits, and one just after it."""
    end = range(max(1, job.points - LATE), job.points + 1)
    late = random.Random(f"{seed} {job.name}").sample(end, min(count // 2, len(end)))
    return sorted({*chosen(job, count - count // 2 - 1, seed), *late, job.points + 1})


def tally(trials: list[Trial]) -> dict[str, object]:
    """Counts of the outcomes, by job, and those that were wrong."""
    wrong = [t for t in trials if t.outcome != "equal"]
    by_job = Counter(t.job for t in trials)
    return {
        "trials": len(trials),
        "equal": len(trials) - len(wrong),
        "litter for gc": sum(t.litter for t in trials),
        "by job": dict(by_job),
        "wrong": [vars(t) for t in wrong],
    }
