"""A shell inside the process, and a store of tiny artefacts of every kind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: tiny networks are slower on more

from embprobe import console, signals
from embprobe.__main__ import respond
from embprobe.making import make
from embprobe.store import Artefact, Store

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.err.splitlines()


Shell = Callable[..., Result]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Runs a command line in this process: words → exit code, stdout, stderr."""
    monkeypatch.setattr(console, "guard_stdout", lambda: None)
    monkeypatch.setattr(signals, "install", lambda: None)

    def run(*words: object) -> Result:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["embprobe", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            respond()
        captured = capsys.readouterr()
        return Result(int(stopped.value.code or 0), captured.out, captured.err)

    return run


def start(*words: object, **options: object) -> "subprocess.Popen[str]":
    """A command line in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "embprobe", *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,  # type: ignore[call-overload]
    )


def finish(process: "subprocess.Popen[str]") -> Result:
    """Waits for a process to end."""
    out, err = process.communicate(timeout=120)
    return Result(process.returncode, out, err)


@pytest.fixture
def place(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "embstore")


@dataclass(frozen=True)
class Zoo:
    """One tiny artefact of every kind, and some that do not belong to the others."""

    store: Store
    artefacts: dict[str, Artefact]

    def __getitem__(self, name: str) -> Artefact:
        return self.artefacts[name]


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """Made once; each artefact is named by its key."""
    from embprobe.stages.compress import Compress
    from embprobe.stages.decode import Decode
    from embprobe.stages.diffuse import Diffuse
    from embprobe.stages.extract import Extract
    from embprobe.stages.ingest import Ingest
    from embprobe.stages.pretrain import Pretrain
    from embprobe.stages.sample import Sample
    from tests import tiny

    root = tmp_path_factory.mktemp("zoo")
    store = Store(root / "embstore")
    made: dict[str, Artefact] = {}

    def keep(name: str, stage: object) -> Artefact:
        made[name] = make(stage, store)  # type: ignore[arg-type]
        store.name(name, made[name])
        return made[name]

    images = keep("images", Ingest(source="planted", count=48, size=16, val_share=0.25))
    flat = keep("flat", Ingest(source=str(tiny.flat_folder(root / "flat", 24)), size=16, val_share=0.25))
    keep("oneclass", Ingest(source=str(tiny.class_folder(root / "one", ["cat"], 12)), size=16, val_share=0.25))
    keep("encoder", Pretrain(images=images, objective="mae", **tiny.PRETRAIN))
    for name, source in (("", images), ("flat_", flat)):
        embeddings = keep(f"{name}embeddings", Extract(images=source, encoder=tiny.ENCODER, device="cpu"))
        latents = keep(f"{name}latents", Compress(embeddings=embeddings, **tiny.COMPRESS))
        keep(f"{name}denoiser", Diffuse(latents=latents, conditional=not name, **tiny.DIFFUSE))
        keep(f"{name}decoder", Decode(latents=latents, **tiny.DECODE))
    keep("samples", Sample(denoiser=made["denoiser"], decoder=made["decoder"], **tiny.SAMPLE))
    return Zoo(store, made)
