"""Branches side by side: the same bits, dependencies, failures, signals, and no orphans."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from embprobe.console import CONTROL
from embprobe.recipe import load_recipe
from embprobe.running import usual_jobs
from embprobe.running.branches import widest
from tests.conftest import ROOT, Result, Shell, finish, start

CHAINS = """
steps:
  - ingest: {source: planted, count: 48, size: 16, val_share: 0.25, as: data}
  - for: {encoder: ["random:vit-16x1-h2-p4", "pixels:4"]}
    steps:
      - extract: {images: $data, encoder: $encoder, as: embeddings}
      - compress: {embeddings: $embeddings, channels: 3, steps: 6, batch: 8, as: latents}
      - diffuse: {latents: $latents, width: 8, steps: 4, batch: 8, as: denoiser}
      - decode: {latents: $latents, steps: 3, batch: 4, width: 8, perceptual: none, as: decoder}
      - sample: {denoiser: $denoiser, decoder: $decoder, count: 24, steps: 2, as: drawn}
      - evaluate: {samples: $drawn, reference: $data, judges: ["random:vit-16x1-h2-p4"], as: metrics}
  - report: {artefacts: $metrics}
"""
BROKEN = """
steps:
  - ingest: {source: planted, count: 8, size: 16, as: data}
  - ingest: {source: broken, size: 16, as: gone}
  - extract: {images: $gone, encoder: pixels, as: needing}
  - extract: {images: $data, encoder: "pixels:4", as: four}
  - extract: {images: $data, encoder: "pixels:8", as: eight}
"""
LONG = """
steps:
  - for: {seed: [0, 1]}
    steps:
      - ingest: {source: planted, count: 6000, size: 64, seed: $seed, as: data}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def contents(root: Path) -> dict[str, bytes]:
    """Every file that holds numbers, by its place in the store."""
    kept = [p for p in root.rglob("*") if p.is_file() and ("/c/" in str(p) or p.suffix == ".safetensors")]
    return {str(path.relative_to(root)): path.read_bytes() for path in kept}


def until(true: Callable[[], object], what: str) -> None:
    for _ in range(400):
        if true():
            return
        time.sleep(0.05)
    pytest.fail(what)


def both_write(store: Path) -> bool:
    return len({path.parts[-8] for path in store.glob("ingest/*/data.zarr/images/c/*/0/0/0")}) == 2


def workers_of(parent: int) -> list[int]:
    listed = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [int(row.split()[0]) for row in listed[1:] if int(row.split()[1]) == parent]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_side_by_side_gives_the_same_bits_as_one_after_the_other(tmp_path: Path) -> None:
    recipe = write(tmp_path, CHAINS)
    results: list[Result] = []
    for jobs in (1, 2):
        results.append(finish(start("run", recipe, "--store", tmp_path / str(jobs), "--jobs", jobs)))
    assert [r.code for r in results] == [0, 0], results[1].err
    one, two = (contents(tmp_path / str(jobs)) for jobs in (1, 2))
    assert one == two and any("weights" in name for name in one) and any("images" in name for name in one)
    (line,) = results[1].out.splitlines()
    assert Path(line).is_dir() and Path(line).name == Path(results[0].out.strip()).name
    done = [row for row in results[1].lines if re.fullmatch(r"\[\d+/14\] \w+ [0-9a-f]{10} \(.*\): made in .* s.*", row)]
    assert len(done) == 14 and len({row.split("]")[0] for row in done}) == 14
    asked = re.findall(r"^\[\d+/14\] features [0-9a-f]{10}$", results[1].err, re.M)
    assert len(asked) == len(set(asked)) == 3  # of the real images and of two sets of samples: nothing twice
    again = finish(start("run", recipe, "--store", tmp_path / "2", "--jobs", 2))
    assert again.out == results[1].out and "diffusing" not in again.err


def test_a_failing_branch_stops_only_what_needs_it(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no picture")
    done = finish(start("run", write(tmp_path, BROKEN), "--store", tmp_path / "store", "--jobs", 2))
    assert done.code == 2 and done.out == ""
    assert done.lines[-1].startswith("embprobe: gone: ")
    assert done.lines[-1].endswith("(1 step left out, needing what failed)")
    assert len(list(tmp_path.glob("store/extract/*/manifest.json"))) == 2


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, -signal.SIGINT)]
)
def test_a_signal_stops_all_workers_and_the_same_command_continues(
    tmp_path: Path, signum: signal.Signals, code: int
) -> None:
    line = ("run", write(tmp_path, LONG), "--store", tmp_path / "store", "--jobs", 2)
    process = start(*line)
    until(lambda: both_write(tmp_path / "store"), "they did not begin")
    workers = workers_of(process.pid)
    process.send_signal(signum)
    stopped = finish(process)
    assert stopped.code == code, stopped.err
    assert stopped.out == "" and "run the same command again to continue" in stopped.lines[-1]
    assert len(workers) == 2 and not any(map(alive, workers))
    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "store").glob("ingest/*/data.zarr/images/c/*/0/0/0")}
    if signum == signal.SIGTERM:
        assert finish(start(*line)).code == 0
        assert written and {p: p.stat().st_mtime_ns for p in written} == written


def test_workers_do_not_outlive_the_process_that_started_them(tmp_path: Path) -> None:
    process = start("run", write(tmp_path, LONG), "--store", tmp_path / "store", "--jobs", 2)
    until(lambda: both_write(tmp_path / "store"), "they did not begin")
    workers = workers_of(process.pid)
    process.kill()
    process.wait()
    until(lambda: not any(map(alive, workers)), "they run on")
    assert not list(tmp_path.glob("store/ingest/*/manifest.json"))


def test_a_worker_that_is_killed_is_told_and_the_other_branch_goes_on(tmp_path: Path) -> None:
    process = start("run", write(tmp_path, LONG), "--store", tmp_path / "store", "--jobs", 2)
    until(lambda: both_write(tmp_path / "store"), "they did not begin")
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    done = finish(process)
    assert done.code == 1 and "was killed (signal 9)" in done.lines[-1] and "fewer --jobs" in done.lines[-1]
    assert len(list(tmp_path.glob("store/ingest/*/manifest.json"))) == 1


BREAK = """
import sys
if "-P" in sys.orig_argv:
    from embprobe.stages.extract import Extract
    Extract.run = lambda self, out: 1 / 0
"""


def test_a_defect_in_a_worker_shows_its_traceback_and_exits_with_1(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(BREAK)
    recipe = write(tmp_path, BROKEN.replace("source: broken", "source: planted"))
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    words = [sys.executable, "-m", "embprobe", "run", recipe, "--store", tmp_path / "store", "--jobs", "2"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert "ZeroDivisionError" in done.stderr and "this is a defect of embprobe" in done.stderr
    assert "its process ended with 1; the lines above say why" in done.stderr
    assert len(list(tmp_path.glob("store/ingest/*/manifest.json"))) == 2


@pytest.mark.parametrize("word", ["0", "x", "-1", "1.5", "", "1000000000000"])
def test_jobs_is_a_number_or_auto(tmp_path: Path, shell: Shell, word: str) -> None:
    done = shell("run", write(tmp_path, LONG), "--store", tmp_path / "store", "--jobs", word)
    assert done.code == 2 and len(done.lines) == 1 and "--jobs is" in done.lines[0] and "auto" in done.lines[0]


def test_jobs_are_chosen_by_cores_branches_and_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    branches = load_recipe(write(tmp_path, CHAINS), {})
    assert widest(branches) == 4  # denoiser and decoder of each of two
    monkeypatch.setattr("embprobe.threads.usable_cores", lambda: 16)
    monkeypatch.setattr("embprobe.running.GPUS", ())
    assert usual_jobs(branches, None) == 4 and usual_jobs(branches, "cuda") == 1
    monkeypatch.setattr("embprobe.threads.usable_cores", lambda: 2)
    assert usual_jobs(branches, "cpu") == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert usual_jobs(branches, "cpu") == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    chain = load_recipe(write(tmp_path, "steps:\n- ingest: {source: planted}\n- extract: {images: $ingest}"), {})
    assert usual_jobs(chain, None) == 1
    monkeypatch.setattr("embprobe.running.GPUS", (str(tmp_path),))
    assert usual_jobs(branches, None) == 1 and usual_jobs(branches, "cpu") == 2


def test_python_takes_jobs_too(tmp_path: Path) -> None:
    code = f"""
import embprobe
store = embprobe.Store({str(tmp_path / "store")!r})
print(embprobe.run({str(write(tmp_path, BROKEN.replace("source: broken", "source: planted")))!r}, store, jobs=2).path)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert Path(done.stdout.strip()).is_dir() and not CONTROL.search(done.stdout)
