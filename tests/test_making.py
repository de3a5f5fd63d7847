"""Making: asked again costs nothing, stopped continues, a full disk costs no more than time."""

import errno
import os
import re
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from embprobe import making as module
from embprobe import signals
from embprobe.errors import Interrupted, UserError
from embprobe.making import make
from embprobe.store import Array, Store
from tests.conftest import Shell
from tests.tiny import Child, Toy


def test_asked_again_runs_nothing(place: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(Toy(), place)
    before = {p: p.stat().st_mtime_ns for p in first.path.rglob("*")}
    monkeypatch.setattr(Toy, "run", lambda *_: pytest.fail("it ran again"))
    assert make(Toy(forward=3), place) == first
    assert {p: p.stat().st_mtime_ns for p in first.path.rglob("*")} == before


def test_the_manifest_tells_question_versions_host_time_and_memory(place: Store) -> None:
    manifest = make(Toy(seed=4), place).manifest
    assert manifest["spec"] == {"stage": "toy", "version": 1, "rows": 10, "seed": 4, "weights": None, "parents": []}
    assert manifest["metrics"] == {"rows": 10} and manifest["versions"]["numpy"] == np.__version__
    assert {"seconds", "peak_bytes", "host", "finished", "python", "files", "bytes", "checksums"} <= set(manifest)


def test_an_unfinished_input_is_named(place: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_received", [15])
    with pytest.raises(Interrupted):
        make(Toy(), place)
    toy = place.open(Toy())
    with pytest.raises(UserError, match=f"--toy: toy {toy.short} isn't finished; run its command again first"):
        make(Child(toy=toy), place)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_stopped_at_any_chunk_it_continues(place: Store, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    asked, real = [0], signals.check

    def check() -> None:
        if asked[0] == at:
            monkeypatch.setattr(signals, "_received", [15])
        asked[0] += 1
        real()

    with monkeypatch.context() as patch:
        patch.setattr(signals, "check", check)
        with pytest.raises(Interrupted, match="stopped by SIGTERM; run the same command again to continue"):
            make(Toy(), place)
    monkeypatch.setattr(signals, "_received", [])
    partly = place.open(Toy())
    assert not partly.complete and partly.array("counts").missing() == list(range(at, 3))
    kept = [partly.path / partly.array("counts").file(chunk) for chunk in range(at)]
    before = [path.stat().st_mtime_ns for path in kept]
    made = make(Toy(), place)
    np.testing.assert_array_equal(made.array("counts").read()[:, 0], np.arange(10))
    assert [path.stat().st_mtime_ns for path in kept] == before


def test_the_time_of_all_runs_is_counted(place: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    out = place.open(Toy())
    out.path.mkdir(parents=True)
    out.log.add(event="stopped", seconds=100.0)
    with (out.path / "log.jsonl").open("a") as file:
        file.write('{"torn')
    made = make(Toy(), place)
    assert made.manifest["seconds"] >= 100
    assert [row["event"] for row in made.log.rows()] == ["stopped", "started", "finished"]


# ---- a full disk


def test_a_full_disk_is_one_line_and_it_continues(
    place: Store, shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("embprobe.stages.ingest.CHUNK_BYTES", 8 * 3 * 16 * 16)
    words = ("ingest", "--source", "planted", "--count", 40, "--size", 16, "--store", place.root)
    real, written = Array.write_chunk, [0]

    def full(self: Array, chunk: int, values: np.ndarray) -> None:
        written[0] += 1
        if written[0] > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "chunk")
        real(self, chunk, values)

    with monkeypatch.context() as patch:
        patch.setattr(Array, "write_chunk", full)
        stopped = shell(*words)
    assert stopped.code == 1 and stopped.lines[-1].startswith("embprobe: no space left to write chunk; free some")
    assert "Traceback" not in stopped.err
    assert shell(*words).code == 0
    assert shell("verify", "--store", place.root).code == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 300 KB, where one may be mounted."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_disk_that_is_really_full(small_disk: Path, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embprobe.stages.ingest.CHUNK_BYTES", 8 * 3 * 32 * 32)
    (small_disk / "filler").write_bytes(bytes(180_000))
    words = ("ingest", "--source", "planted", "--count", 40, "--size", 32, "--store", small_disk / "store")
    stopped = shell(*words)
    assert stopped.code == 1 and "no space left" in stopped.lines[-1] and "Traceback" not in stopped.err
    assert not list(small_disk.rglob("*.part"))
    (small_disk / "filler").unlink()
    done = shell(*words)
    assert done.code == 0, done.err
    assert shell("verify", "--store", small_disk / "store").code == 0


def test_every_number_depends_on_libraries_whose_versions_are_kept() -> None:
    assert module.versions()["torch"] and set(module.versions()) == set(module.LIBRARIES)


def test_the_peak_of_memory_is_a_stages_own(place: Store) -> None:
    """A hungry stage in the same process is not told of by the next one."""
    hungry = bytearray(300 << 20)
    hungry[:: 1 << 12] = b"x" * len(hungry[:: 1 << 12])
    del hungry
    ever = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    peak = make(Toy(), place).manifest["peak_bytes"]
    if not Path("/proc/self/clear_refs").is_file():
        pytest.skip("this system can't forget a peak")
    assert 0 < peak < ever - (200 << 20)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            "CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might…",
            "the GPU failed .*ECC.*run the same",
        ),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", "the GPU failed"),
        ("CUDA out of memory. Tried to allocate 20.00 GiB", "out of memory; a smaller --forward"),
    ],
)
def test_a_failing_gpu_is_no_defect_of_ours(error: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    from embprobe.__main__ import _edge

    kind = torch.OutOfMemoryError if "out of memory" in error else RuntimeError
    assert _edge(kind(error)) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(words, line) and "defect" not in line
