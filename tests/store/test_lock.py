"""Two writers never collide."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from embprobe.errors import Interrupted, MachineError
from embprobe.store import Store
from embprobe.store import lock as module
from embprobe.store.lock import Lock
from tests.tiny import Toy

HOLD = """
import sys, time
from pathlib import Path
from embprobe.store.lock import Lock
with Lock(Path(sys.argv[1])).held(wait=False, what="x"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".lock"


def holder(path: Path) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def elsewhere(path: Path, age: float) -> None:
    path.write_text(json.dumps({"host": "elsewhere", "pid": 7, "token": "theirs"}))
    os.utime(path, (time.time() - age, time.time() - age))


def test_a_live_holder_is_named_and_a_dead_one_taken_over(path: Path) -> None:
    process = holder(path)
    with (
        pytest.raises(
            Interrupted, match=f"toy is being made by process {process.pid} on {socket.gethostname()}"
        ) as error,
        Lock(path).held(wait=False, what="toy"),
    ):
        pytest.fail("two hold it")
    assert error.value.exit_code == 75
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    with Lock(path).held(wait=False, what="toy") as lock:
        lock.check()


def test_one_who_waits_goes_on_when_the_holder_ends(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = holder(path)
    threading.Timer(0.5, process.kill).start()
    with Lock(path).held(wait=True, what="toy"):
        pass
    process.wait()
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"process {process.pid}" in said and "waiting" in said


def test_a_holder_on_another_host_lives_while_its_heart_beats(path: Path) -> None:
    elsewhere(path, age=10)
    with pytest.raises(Interrupted, match="process 7 on elsewhere"), Lock(path).held(wait=False, what="toy"):
        pytest.fail("two hold it")
    elsewhere(path, age=module.DEAD + 1)
    with Lock(path).held(wait=False, what="toy") as lock:
        lock.check()


def test_the_heart_beats(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT", 0.05)
    with Lock(path).held(wait=False, what="toy"):
        os.utime(path, (1, 1))
        time.sleep(0.3)
        assert path.stat().st_mtime > 1


def test_one_whose_token_was_replaced_writes_nothing_more(place: Store) -> None:
    out = place.open(Toy())
    with out.locked():
        out.write_json("facts.json", 1)
        (out.path / ".lock").write_text(json.dumps({"host": "elsewhere", "pid": 7, "token": "theirs"}))
        with pytest.raises(MachineError, match="was taken over by process 7 on elsewhere"):
            out.write_json("facts.json", 2)
        with pytest.raises(MachineError, match="taken over"):
            out.commit({})
    assert out.read_json("facts.json") == 1 and not out.complete
    assert "theirs" in (out.path / ".lock").read_text()  # and it leaves the other's lock alone


def test_a_lock_is_free_after_an_error(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Lock(path).held(wait=False, what="toy"):
        raise ZeroDivisionError
    with Lock(path).held(wait=False, what="toy"):
        pass
