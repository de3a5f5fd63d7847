"""A tiny artefact of every kind in many small files, and work done in forks of this process."""

import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from embprobe.errors import EmbprobeError
from embprobe.making import make
from embprobe.stage import Stage
from embprobe.stages.ceiling import Ceiling
from embprobe.stages.classify import Classify
from embprobe.stages.compress import Compress
from embprobe.stages.decode import Decode
from embprobe.stages.diffuse import Diffuse
from embprobe.stages.evaluate import Evaluate
from embprobe.stages.extract import Extract
from embprobe.stages.features import Featurize
from embprobe.stages.ingest import Ingest
from embprobe.stages.measure import Measure
from embprobe.stages.predict import Predict
from embprobe.stages.pretrain import Pretrain
from embprobe.stages.probe import Probe
from embprobe.stages.read import Read
from embprobe.stages.report import Report
from embprobe.stages.sample import Sample
from embprobe.store import Artefact, Store, digest
from tests import tiny

Made = dict[str, Artefact]
LIMIT = 60.0  # seconds that any piece of work may take

STAGES: dict[str, Callable[[Made], Stage]] = {
    "ingest": lambda made: Ingest(source="planted", count=40, size=16, val_share=0.25),
    "pretrain": lambda made: Pretrain(images=made["ingest"], objective="ijepa", **tiny.PRETRAIN | {"steps": 10}),
    "extract": lambda made: Extract(images=made["ingest"], encoder=made["pretrain"], device="cpu"),
    "compress": lambda made: Compress(embeddings=made["extract"], **tiny.COMPRESS | {"steps": 20}),
    "diffuse": lambda made: Diffuse(latents=made["compress"], conditional=True, **tiny.DIFFUSE | {"steps": 10}),
    "decode": lambda made: Decode(latents=made["compress"], gan_start=4, **tiny.DECODE | {"steps": 8}),
    "classify": lambda made: Classify(images=made["ingest"], **tiny.CLASSIFY),
    "sample": lambda made: Sample(denoiser=made["diffuse"], decoder=made["decode"], **tiny.SAMPLE),
    "features": lambda made: Featurize(images=made["ingest"], judge=made["classify"], size=(16, 16), device="cpu"),
    "features of samples": lambda made: Featurize(
        images=made["sample"], judge=made["classify"], size=(16, 16), whole=True, device="cpu"
    ),
    "measure": lambda made: Measure(
        samples=made["sample"], reference=made["ingest"], judge=made["classify"], k=2, device="cpu"
    ),
    "evaluate": lambda made: Evaluate(
        samples=made["sample"], reference=made["ingest"], judges=(made["classify"],), k=2, device="cpu"
    ),
    "predict": lambda made: Predict(embeddings=made["extract"], device="cpu"),
    "ingest crowds": lambda made: Ingest(source="planted", objects=(1, 3), count=40, size=16, val_share=0.25),
    "ceiling": lambda made: Ceiling(images=made["ingest crowds"], grid=(2, 2), **tiny.CLASSIFY | {"steps": 4}),
    "read": lambda made: Read(embeddings=made["extract"], reader="linear", device="cpu"),
    "probe": lambda made: Probe(embeddings=made["extract"], k=3, device="cpu"),
    "report": lambda made: Report(artefacts=(made["evaluate"], made["probe"])),
}


def shrink() -> None:
    """Many small chunks and frequent checkpoints; all that is heavy is imported here, once for all forks."""
    import pkgutil
    from importlib import import_module

    import torch
    import zarr  # noqa: F401

    from embprobe import evaluation, metrics, nn, page, study, training
    from embprobe.encoders import tokens
    from embprobe.stages import features, ingest, sample
    from embprobe.training import checkpoints

    for package in (nn, metrics, evaluation, page, study, training):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    torch.set_num_threads(1)
    ingest.CHUNK_BYTES = 8 * 3 * 16 * 16
    tokens.CHUNK_BYTES = 8 * 2 * 4 * 4 * 16
    sample.CHUNK_ROWS = features.CHUNK_ROWS = features.BATCH = 8
    checkpoints.LEAST_SECONDS, checkpoints.SHARE = 0.0, 1e9  # after every step


# ---- forks


@dataclass(frozen=True)
class End:
    """How a piece of work ended: its exit code, or minus the signal; what it said."""

    code: int
    said: str
    seconds: float

    @property
    def clean(self) -> bool:
        """Whether it ended by itself, without a traceback."""
        return self.code in (0, 2, 3, 75) and "Traceback" not in self.said and "defect" not in self.said


def forked(work: Callable[[], int | None], *, limit: float = LIMIT, memory: bool = False) -> End:
    """Does the work in a fork; one that takes longer than the limit is killed (code −9 after `limit` seconds)."""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as told:
        child = os.fork()
        if not child:
            _child(work, told.fileno())
        while True:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            if time.monotonic() - began > limit:
                os.kill(child, signal.SIGKILL)
                status = os.waitpid(child, 0)[1]
                break
            time.sleep(0.002)
        told.seek(0)
        said = told.read()
    return End(os.waitstatus_to_exitcode(status), said, time.monotonic() - began)


def _child(work: Callable[[], int | None], told: int) -> None:
    code = 1
    try:
        os.dup2(told, 1)
        os.dup2(told, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        code = work() or 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except EmbprobeError as error:
        sys.stderr.write(f"embprobe: {error}\n")
        code = error.exit_code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def command(*words: object) -> Callable[[], int | None]:
    """A command line, to be run in a fork."""

    def run() -> int | None:
        from embprobe.__main__ import respond

        sys.argv = ["embprobe", *map(str, words)]
        respond()

    return run


# ---- the zoo


def artefacts_in(store: Store, names: dict[str, tuple[str, str]]) -> Made:
    """The artefacts of the zoo, in a copy of its store."""
    return {name: Artefact(store.root, *where) for name, where in names.items()}


def fill(store: Store, until: str | None = None) -> dict[str, tuple[str, str]]:
    """Makes every artefact, each in a fork; stage and fingerprint of each by name."""
    made: Made = {}
    for name, build in STAGES.items():
        if name == until:
            break
        stage = build(made)
        end = forked(partial(_make, stage, store))
        if end.code:
            raise SystemExit(f"{name} failed: {end.said}")
        from embprobe.making import planned

        made[name] = planned(stage, store)
    return {name: (a.stage, a.fingerprint) for name, a in made.items()}


def _make(stage: Stage, store: Store) -> None:
    make(stage, store)


def copied(store: Store, target: Path) -> Store:
    """A copy of a store."""
    return Store(Path(shutil.copytree(store.root, target, symlinks=True)))


TELLS_TIME = ("log.jsonl", "manifest.json", "manifest.xxh128")  # these tell when, and on which machine


def content(root: Path) -> dict[str, str]:
    """What a folder holds, by name: a digest of each file, the target of each link; without what tells the time."""
    found = {}
    for path in _files(root):
        if path.name not in (*TELLS_TIME, ".lock"):
            held = str(path.readlink()) if path.is_symlink() else digest(path.read_bytes())
            found[str(path.relative_to(root))] = held
    return found


def _files(root: Path) -> Iterator[Path]:
    for entry in os.scandir(root):
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        else:
            yield Path(entry.path)
