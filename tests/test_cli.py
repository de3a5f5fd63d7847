"""Processes: one line on stdout, signals, and two that want the same."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import Shell, Zoo, finish, start

SCENES = ("ingest", "--source", "planted", "--count", "4000", "--size", "48", "--store")


def until_begun(store: Path, process: "subprocess.Popen[str]") -> None:
    """Waits until the process holds the artefact and has written images."""
    for _ in range(600):
        locks = [path.read_text() for path in store.glob("ingest/*/.lock")]
        if any(f'"pid": {process.pid},' in lock for lock in locks) and list(
            store.glob("ingest/*/data.zarr/images/c/*")
        ):
            return
        time.sleep(0.05)
    pytest.fail("it did not begin")


def test_stdout_is_one_absolute_path(zoo: Zoo, shell: Shell) -> None:
    done = shell("extract", "--images", "images", "--encoder", "random:vit-16x1-h2-p4", "--store", zoo.store.root)
    assert done.code == 0 and done.out == f"{zoo['embeddings'].path}\n"


def test_or_json(zoo: Zoo, shell: Shell) -> None:
    done = shell(
        "extract", "--images", "images", "--encoder", "random:vit-16x1-h2-p4", "--json", "--store", zoo.store.root
    )
    assert json.loads(done.out)["path"] == str(zoo["embeddings"].path)


def test_an_input_left_out_is_named_on_stderr(zoo: Zoo, shell: Shell) -> None:
    done = shell(
        "sample",
        "--denoiser",
        "denoiser",
        "--decoder",
        "decoder",
        "--count",
        24,
        "--steps",
        3,
        "--store",
        zoo.store.root,
    )
    assert done.out == f"{zoo['samples'].path}\n"
    done = shell("probe", "--store", zoo.store.root)
    assert done.code == 2 and zoo["embeddings"].short in done.err and zoo["flat_embeddings"].short in done.err


def test_a_defect_shows_its_traceback_and_exits_with_1(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("embprobe.inspection.listing.show_list", lambda *_, **__: 1 / 0)
    done = shell("ls", "--store", tmp_path)
    assert (
        done.code == 1 and "ZeroDivisionError" in done.err and done.lines[-1].startswith("embprobe: this is a defect")
    )


def test_signals_stop_it_and_the_same_command_continues(tmp_path: Path) -> None:
    for signum, code in ((signal.SIGTERM, 75), (signal.SIGUSR1, 75), (signal.SIGINT, -signal.SIGINT)):
        process = start(*SCENES, tmp_path)
        until_begun(tmp_path, process)
        process.send_signal(signum)
        stopped = finish(process)
        assert stopped.code == code, stopped.err
        assert stopped.out == "" and "run the same command again to continue" in stopped.lines[-1]
        assert not list(tmp_path.glob("ingest/*/manifest.json")) and not list(tmp_path.rglob("*.part"))
    written = {p: p.stat().st_mtime_ns for p in tmp_path.glob("ingest/*/data.zarr/images/c/*/0/0/0")}
    assert written
    done = finish(start(*SCENES, tmp_path))
    assert done.code == 0 and Path(done.out.strip()).is_dir()
    assert {p: p.stat().st_mtime_ns for p in written} == written


def test_of_two_that_want_the_same_one_works_and_one_waits(tmp_path: Path) -> None:
    first = start(*SCENES, tmp_path)
    until_begun(tmp_path, first)
    hasty = finish(start(*SCENES, tmp_path, "--no-wait"))
    assert hasty.code == 75 and f"is being made by process {first.pid}" in hasty.lines[-1]
    second = start(*SCENES, tmp_path)
    results = [finish(process) for process in (first, second)]
    assert [r.code for r in results] == [0, 0]
    assert results[0].out == results[1].out != ""
    assert f"is being made by process {first.pid}" in results[1].err and "waiting" in results[1].err
    assert "drawing" not in results[1].err


def test_one_who_waits_takes_over_from_the_dead(tmp_path: Path) -> None:
    first = start(*SCENES, tmp_path)
    until_begun(tmp_path, first)
    second = start(*SCENES, tmp_path)
    time.sleep(1.0)
    first.kill()
    assert finish(first).code == -signal.SIGKILL
    done = finish(second)
    assert done.code == 0 and Path(done.out.strip(), "manifest.json").is_file()
    assert finish(start("verify", "--store", tmp_path)).code == 0
