"""Threads: as many as there are cores for this process, and none that spins while it waits."""

import os
import subprocess
import sys

import pytest

from embprobe.threads import cores_within, settle
from tests.conftest import ROOT

V2 = {"/proc/self/cgroup": "0::/jobs/mine\n"}
V1 = {"/proc/self/cgroup": "3:cpuset:/\n2:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n"}
V1_QUOTA = "/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_quota_us"
V1_PERIOD = "/sys/fs/cgroup/cpu,cpuacct/docker/abc/cpu.cfs_period_us"


@pytest.mark.parametrize(
    ("files", "slurm", "cores"),
    [
        ({}, None, 8),
        (V2, None, 8),
        (V2 | {"/sys/fs/cgroup/jobs/mine/cpu.max": "max 100000\n"}, None, 8),
        (V2 | {"/sys/fs/cgroup/jobs/mine/cpu.max": "350000 100000\n"}, None, 3),
        (V2 | {"/sys/fs/cgroup/jobs/mine/cpu.max": "50000 100000\n"}, None, 1),
        (V2 | {"/sys/fs/cgroup/jobs/cpu.max": "200000 100000\n"}, None, 2),  # of the group above
        ({"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/cpu.max": "400000 100000\n"}, None, 4),  # a container's own
        (V1 | {V1_QUOTA: "-1\n", V1_PERIOD: "100000\n"}, None, 8),
        (V1 | {V1_QUOTA: "250000\n", V1_PERIOD: "100000\n"}, None, 2),
        (V1 | {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "6000", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "1000"}, None, 6),
        (V2 | {"/sys/fs/cgroup/jobs/mine/cpu.max": "600000 100000\n"}, "5", 5),
        ({}, "16", 8),
        ({}, "many", 8),
        ({"/proc/self/cgroup": "nonsense\n::\n", "/sys/fs/cgroup/cpu.max": "0 0"}, None, 8),
    ],
)
def test_cores_are_the_least_of_affinity_quota_and_slurm(files: dict[str, str], slurm: str | None, cores: int) -> None:
    assert cores_within(8, files.get, slurm) == cores


@pytest.mark.parametrize(
    "own",
    [{"OMP_NUM_THREADS": "7", "OMP_WAIT_POLICY": "active"}, {"OMP_NUM_THREADS": "3,2", "GOMP_SPINCOUNT": "9"}],
)
def test_what_the_user_says_wins(own: dict[str, str]) -> None:
    environment = dict(own)
    settle(environment)
    assert environment == own


TELL = """
import os, sys
from embprobe import __main__, cli
told = lambda **_: print(*(os.environ.get(k) for k in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")), file=sys.stderr)
cli.app.command("told")(lambda: told())
sys.argv = ["embprobe", "told"]
__main__.main()
"""
EMBED = """
import os, sys
before = dict(os.environ)
import embprobe
for name in embprobe.__all__: getattr(embprobe, name)
sys.stderr.write(str(dict(os.environ) == before))
"""


def said(code: str, **own: str) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "SLURM_"))}
    environment |= {"PYTHONPATH": str(ROOT)} | own
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    return done.stderr.strip()


def test_the_command_line_settles_threads_before_anything_else() -> None:
    assert said(TELL, SLURM_CPUS_PER_TASK="1") == "1 passive"
    assert said(TELL, OMP_NUM_THREADS="5", OMP_WAIT_POLICY="active") == "5 active"


def test_python_keeps_its_own_environment() -> None:
    assert said(EMBED) == "True"
