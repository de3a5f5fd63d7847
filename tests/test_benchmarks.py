"""The benchmark's command: a table of ratios, each of two things that do the same."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.pairs import HEAD, Disagreement, Pair, agree, in_turns, markdown

ROOT = Path(__file__).parent.parent


def benchmark(*words: object) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.benchmarks", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_command_replaces_the_table_of_a_readme(tmp_path: Path):
    out = tmp_path / "README.md"
    out.write_text("before\n<!-- table -->\nold\n<!-- end of table -->\nafter\n")
    done = benchmark("--quick", "--only", "store", "--folder", tmp_path, "--out", out)
    assert done.returncode == 0, done.stderr
    first, *lines, last = [line for line in out.read_text().splitlines() if not line.startswith("<!--")]
    assert (first, last) == ("before", "after")
    head, _, *rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    assert head == HEAD and len(rows) == 3 and all(row[0] == "store" for row in rows)
    for row in rows:
        for name in ("processor time", "wall time"):
            median, best = row[HEAD.index(name)].rstrip(")").split(" (best ")
            assert all(math.isfinite(float(ratio)) and float(ratio) > 0 for ratio in (median, best))
        assert "equal" in row[HEAD.index("same work")]


def test_an_unknown_line_is_named():
    done = benchmark("--only", "store,sampel")
    assert done.returncode == 2 and "no line sampel" in done.stderr


def test_a_ratio_is_their_time_over_ours():
    pair = Pair(
        "a", "b", "c", [(2.0, 1.0), (2.0, 1.0), (4.0, 1.0)], [(4.0, 3.0), (2.0, 2.0), (4.0, 3.0)], "equal", 0.95
    )
    table = markdown([pair], ["d is left out."])
    assert table.splitlines()[2] == (
        "| a | b | c | 3.00 (best 2.00) | 1.00 (best 1.00) | 2.00-3.00; wall 1.00-2.00 | 0.95 | equal |"
    )
    assert table.endswith("\n\nd is left out.\n")


@pytest.mark.parametrize("theirs", [[1.0, 2.2], [1.0, math.nan], [1.0, 2.0, 2.0]])
def test_other_work_gets_no_ratio(theirs: list[float]):
    assert agree("numbers", [1.0, 2.0], [1.0, 2.0], 1e-3) == "numbers equal"
    with pytest.raises(Disagreement):
        agree("numbers", [1.0, 2.0], np.array(theirs), 1e-3)


def test_every_round_does_each_once():
    done: list[str] = []
    times = in_turns({"a": lambda: done.append("a"), "b": lambda: done.append("b")}, 4)
    assert [sorted(done[i : i + 2]) for i in range(0, 8, 2)] == [["a", "b"]] * 4
    assert {name: len(rounds) for name, rounds in times.items()} == {"a": 4, "b": 4}
