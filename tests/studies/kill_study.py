"""Kills every stage at random moments, runs it again, and compares with an uninterrupted run.

    python tests/studies/kill_study.py --moments 10 --store DIR

The parent imports all that is heavy, once, and never works itself: each run is a fork of it, so a kill costs no start.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2]))

from embprobe.making import make, planned
from embprobe.stage import Stage
from embprobe.stages.classify import Classify
from embprobe.stages.compress import Compress
from embprobe.stages.decode import Decode
from embprobe.stages.diffuse import Diffuse
from embprobe.stages.evaluate import Evaluate
from embprobe.stages.extract import Extract
from embprobe.stages.features import Featurize
from embprobe.stages.ingest import Ingest
from embprobe.stages.measure import Measure
from embprobe.stages.pretrain import Pretrain
from embprobe.stages.probe import Probe
from embprobe.stages.sample import Sample
from embprobe.store import Artefact, Store, mending
from tests import tiny

Made = dict[str, Artefact]

STAGES: dict[str, Callable[[Made], Stage]] = {
    "ingest": lambda made: Ingest(source="planted", count=160, size=16, val_share=0.25),
    "pretrain": lambda made: Pretrain(images=made["ingest"], objective="ijepa", **tiny.PRETRAIN | {"steps": 40}),
    "extract": lambda made: Extract(images=made["ingest"], encoder=made["pretrain"], device="cpu"),
    "compress": lambda made: Compress(embeddings=made["extract"], **tiny.COMPRESS | {"steps": 60}),
    "diffuse": lambda made: Diffuse(latents=made["compress"], conditional=True, **tiny.DIFFUSE | {"steps": 12}),
    "decode": lambda made: Decode(latents=made["compress"], gan_start=4, **tiny.DECODE | {"steps": 10}),
    "classify": lambda made: Classify(images=made["ingest"], **tiny.CLASSIFY | {"steps": 5}),
    "sample": lambda made: Sample(denoiser=made["diffuse"], decoder=made["decode"], **tiny.SAMPLE | {"count": 64}),
    "features": lambda made: Featurize(images=made["ingest"], judge=made["classify"], size=(16, 16), device="cpu"),
    "features of samples": lambda made: Featurize(
        images=made["sample"], judge=made["classify"], size=(16, 16), whole=True, device="cpu"
    ),
    "measure": lambda made: Measure(
        samples=made["sample"], reference=made["ingest"], judge=made["classify"], device="cpu"
    ),
    "evaluate": lambda made: Evaluate(  # of other images than above, so that its judge looks and measures too
        samples=made["sample"], reference=made["ingest"], judges=(made["classify"],), limit=60, device="cpu"
    ),
    "probe": lambda made: Probe(embeddings=made["extract"], device="cpu"),
}


@dataclass
class Count:
    """What came of the kills of one stage."""

    stage: str
    seconds: float
    killed: int = 0
    begun: int = 0  # killed after something had been written
    equal: int = 0


def shrink() -> None:
    """Many small chunks and frequent checkpoints, so that there is something to continue."""
    import pkgutil
    from importlib import import_module

    import torch
    import zarr  # noqa: F401

    from embprobe import evaluation, metrics, nn
    from embprobe.stages import extract, features, ingest, sample
    from embprobe.training import engine

    for package in (nn, metrics, evaluation):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    torch.set_num_threads(1)
    ingest.CHUNK_BYTES = 8 * 3 * 16 * 16
    extract.CHUNK_BYTES = 8 * 2 * 4 * 4 * 16
    sample.CHUNK_ROWS = features.CHUNK_ROWS = features.BATCH = 8
    engine.CHECKPOINT_SECONDS = 0.2


def work(stage: Stage, store: Store) -> int:
    """Makes the stage's artefact in a fork; returns its process."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with (store.root / "stderr.txt").open("a") as told:
            os.dup2(told.fileno(), 2)
            make(stage, store)
        code = 0
    finally:
        os._exit(code)


def whole(stage: Stage, store: Store) -> Artefact:
    """The artefact, made without a kill."""
    _, status = os.waitpid(work(stage, store), 0)
    if status:
        raise SystemExit(f"{stage.name()} failed; see {store.root / 'stderr.txt'}")
    made = planned(stage, store)
    if bad := mending.damage(made):
        raise SystemExit(f"{made.path} is damaged: {', '.join(bad)}")
    return made


def killed(stage: Stage, store: Store, seconds: float) -> bool:
    """Kills the work after so many seconds; False if it ended before."""
    child = work(stage, store)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def study(root: Path, moments: int, seed: int) -> list[Count]:
    """Counts for every stage; what differs stays in `root`."""
    shrink()
    base, made, counts = Store(root / "whole"), Made(), []
    for name, build in STAGES.items():
        stage, began = build(made), time.monotonic()
        made[name] = whole(stage, base)
        count = Count(name, time.monotonic() - began)
        draw = random.Random(f"{seed} {name}")
        for moment in range(moments):
            store, share = Store(root / f"{name}_{moment}"), draw.random()
            while not killed(stage, store, share * count.seconds):
                shutil.rmtree(store.root)
                store, share = Store(store.root), share * 0.7
            count.killed += 1
            count.begun += any(store.root.glob("*/*/checksums.xxh128"))
            if whole(stage, store).folder.sums == made[name].folder.sums:
                count.equal += 1
                shutil.rmtree(store.root)
        sys.stderr.write(
            f"{name:<10} {count.equal} of {count.killed} equal, {count.begun} begun, {count.seconds:.1f} s\n"
        )
        counts.append(count)
    return counts


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moments", type=int, default=10, help="kills of each stage")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--store", type=Path, required=True, help="an empty folder")
    given = parser.parse_args()
    found = study(given.store, given.moments, given.seed)
    sys.stdout.write(json.dumps([asdict(count) for count in found], indent=1) + "\n")
    sys.exit(0 if all(count.equal == count.killed for count in found) else 3)
