"""A slice of the kills and power cuts; `python -m tests.torture` makes them all."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.torture.power import Disk, File, Folder
from tests.torture.zoo import STAGES

SLICE = """
import sys
from pathlib import Path
from tests.torture import crashes
from tests.torture.zoo import shrink

shrink()
root = Path(sys.argv[1])
trials = []
for job in crashes.jobs(root, ["extract", "diffuse", "repair", "rm", "gc"]):
    trials += [crashes.killed(job, point, root / "trial") for point in crashes.chosen(job, 6, 1)]
    trials += [crashes.cut_off(job, point, root / "trial", 1) for point in crashes.chosen_late(job, 4, 2)]
tally = crashes.tally(trials)
assert tally["trials"] >= 40 and not tally["wrong"], tally["wrong"]
"""


def test_killed_or_cut_off_anywhere_and_asked_again_it_is_as_if_nothing_had_been(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SLICE, str(tmp_path / "slice")], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_every_stage_is_tortured() -> None:
    from embprobe.stages import FLOW

    assert {name.split()[0] for name in STAGES} == {stage.name() for stage in FLOW}


@pytest.mark.parametrize("flushed", [True, False])
def test_a_cut_takes_back_what_was_not_flushed_and_nothing_else(tmp_path: Path, flushed: bool) -> None:
    import random

    whole = 0
    for seed in range(40):
        root = tmp_path / f"now {seed}"
        disk = Disk(root, Folder({"old": File(b"a\n", b"a\n")}, {"old": File(b"a\n", b"a\n")}))
        disk.replay("create", root / "new", b"data")
        disk.replay("make_folder", root / "below")
        disk.replay("rename", root / "new", root / "below" / "new")
        if flushed:
            disk.replay("sync", root)
            disk.replay("sync", root / "below")
        disk.cut(tmp_path / f"left {seed}", random.Random(seed))
        left = tmp_path / f"left {seed}"
        assert (left / "old").read_bytes() == b"a\n"
        whole += (left / "below" / "new").exists() and (left / "below" / "new").read_bytes() == b"data"
    assert whole == 40 if flushed else 0 < whole < 20
