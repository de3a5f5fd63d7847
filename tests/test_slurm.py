"""recipes/slurm.sh on a cluster of one node, started here."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from embprobe.store import Artefact, Store
from tests.conftest import ROOT, Zoo
from tests.tiny import COMPRESS

DAEMONS = ("munged", "slurmctld", "slurmd")
SCRIPT = ROOT / "recipes" / "slurm.sh"


def why_not() -> str:
    """What a cluster lacks here, or nothing."""
    if absent := [d for d in DAEMONS if not shutil.which(d)]:
        return f"{', '.join(absent)} not installed (packages slurm-wlm and munge)"
    return "" if os.geteuid() == 0 else "a cluster of its own needs root"


pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "-")

CONF = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0
MpiDefault=none
ReturnToService=2
KillWait=20
NodeName={host} NodeAddr=127.0.0.1 CPUs=1 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


def until(true: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Waits for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.1)


@dataclass(frozen=True)
class Cluster:
    """How to reach it, and where jobs write their logs."""

    folder: Path
    environment: dict[str, str]

    def do(self, *words: object) -> str:
        command = [str(w) for w in words]
        done = subprocess.run(command, env=self.environment, cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def job(self, number: str, fact: str) -> str:
        """A fact that Slurm tells about a job."""
        facts = dict(word.split("=", 1) for word in self.do("scontrol", "show", "job", number).split() if "=" in word)
        return facts[fact]

    def log(self, number: str) -> str:
        path = self.folder / f"embprobe-{number}.log"
        return path.read_text() if path.exists() else ""

    def submit(self, *words: object) -> str:
        return self.do("sbatch", "--parsable", SCRIPT, *words).strip()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("slurm")
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool", "munge", "bin"):
        (folder / name).mkdir(mode=0o755)
    (folder / "munge" / "key").write_bytes(os.urandom(1024))
    (folder / "munge" / "key").chmod(0o600)
    (folder / "slurm.conf").write_text(CONF.format(folder=folder, host=host, ports=free_ports(2)))
    command = folder / "bin" / "embprobe"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m embprobe "$@"\n')
    command.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "SBATCH_"))}
    environment |= {
        "SLURM_CONF": str(folder / "slurm.conf"),
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    files = {k: f"--{k}-file={folder}/munge/{k[:3]}" for k in ("pid", "log", "seed")}
    munged = [
        "munged",
        "-F",
        "--force",
        f"--key-file={folder}/munge/key",
        f"--socket={folder}/munge/socket",
        *files.values(),
    ]
    started = [start(munged, environment)]
    try:
        until((folder / "munge" / "socket").exists, "munged", 20)
        started += [start([d, "-D", "-f", f"{folder}/slurm.conf"], environment) for d in DAEMONS[1:]]
        made = Cluster(folder, environment)
        until(lambda: "idle" in sinfo(environment), "the node", 30)
        yield made
    finally:
        for daemon in reversed(started):
            daemon.terminate()
        for daemon in started:
            daemon.wait(20)


def start(words: list[str], environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def sinfo(environment: dict[str, str]) -> str:
    return subprocess.run(["sinfo", "-h", "-o", "%T"], env=environment, capture_output=True, text=True).stdout


def long_compress(zoo: Zoo, store: Path, seed: int) -> tuple[list[object], Callable[[], Artefact | None]]:
    """A command that trains for some seconds, and what finds its artefact."""
    options = {**COMPRESS, "steps": 3000, "seed": seed}
    words: list[object] = ["compress", "--store", store, "--embeddings", zoo["embeddings"].path]
    words += [w for k, v in options.items() for w in (f"--{k}", v)]

    def found() -> Artefact | None:
        return next((a for a in Store(store).artefacts() if a.stage == "compress"), None)

    return words, found


def training(found: Callable[[], Artefact | None]) -> bool:
    """Whether some steps are done."""
    artefact = found()
    return artefact is not None and any("step" in row for row in artefact.log.rows())


def test_a_job_told_of_its_end_saves_its_work_queues_itself_and_finishes(
    cluster: Cluster, zoo: Zoo, tmp_path: Path
) -> None:
    words, found = long_compress(zoo, tmp_path / "store", 0)
    job = cluster.submit(*words)
    until(lambda: training(found), "training")
    cluster.do("scancel", "--signal=USR1", "--batch", job)
    until(lambda: cluster.job(job, "JobState") == "PENDING" and cluster.job(job, "Restarts") == "1", "the requeue")
    stopped = found()
    assert stopped is not None and not stopped.complete and stopped.folder.names("checkpoints")
    assert "stopped by SIGUSR1; run the same command again to continue" in cluster.log(job)

    cluster.do(
        "scancel", job
    )  # it is queued again; Slurm holds it back for some minutes, which a test need not wait for
    again = cluster.submit(*words)
    until(lambda: cluster.job(again, "JobState") == "COMPLETED", "the end of the job")
    done = found()
    assert done is not None and done.complete
    before = [row["step"] for row in done.log.rows() if "step" in row]
    assert before == sorted(set(before)), "steps were trained twice"
    assert [row["event"] for row in done.log.rows() if row.get("event", "started") != "started"] == [
        "stopped",
        "finished",
    ]
    assert cluster.log(again).splitlines()[-1] == str(done.path)


def test_a_cancelled_job_saves_its_work_and_stays_away(cluster: Cluster, zoo: Zoo, tmp_path: Path) -> None:
    words, found = long_compress(zoo, tmp_path / "store", 1)
    job = cluster.submit(*words)
    until(lambda: training(found), "training")
    cluster.do("scancel", job)
    until(lambda: "idle" in sinfo(cluster.environment), "the end of the job")
    stopped = found()
    assert stopped is not None and stopped.folder.names("checkpoints")
    assert "stopped by SIGTERM" in cluster.log(job)
    assert (cluster.job(job, "JobState"), cluster.job(job, "Restarts")) == ("CANCELLED", "0")
