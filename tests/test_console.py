"""The console: stdout holds results alone, everything else is plain lines on stderr."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embprobe import console

NOISE = """
import os, sys
from embprobe import console
console.guard_stdout()
print("a library prints")
os.write(1, b"a C library prints\\n")
os.system("echo a child prints")
console.say("said")
console.result("the result \\u2615")
console.fail("two\\nlines")
"""


def test_only_results_reach_stdout() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "PYTHONUNBUFFERED": "1"}
    done = subprocess.run([sys.executable, "-c", NOISE], capture_output=True, env=environment, check=True)
    assert done.stdout.decode() == "the result ☕\n"
    assert done.stderr.decode().splitlines() == [
        "a library prints",
        "a C library prints",
        "a child prints",
        "said",
        "embprobe: two lines",
    ]


def test_progress_is_plain_lines_where_stderr_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "PLAIN_SECONDS", 0.0)
    with console.progress("embedding", total=4, unit="img") as bar:
        for _ in range(4):
            bar.advance(1, loss=0.25)
    said = capsys.readouterr().err
    assert "\r" not in said and "\x1b" not in said
    lines = said.splitlines()
    assert (
        lines[0].startswith("embedding 1/4") and "img/s" in lines[0] and "left" in lines[0] and "loss 0.25" in lines[0]
    )
    assert lines[-1].startswith("embedding 4/4") and " in " in lines[-1]


def test_tables_align_and_put_numbers_right(capsys: pytest.CaptureFixture[str]) -> None:
    console.print_table(["name", "value"], [["a", "1.5"], ["longer", "12.25"]])
    assert capsys.readouterr().out.splitlines() == ["name    value", "a         1.5", "longer  12.25"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1.24, "1.2 s"), (59, "59 s"), (61, "1 min 01 s"), (119.7, "2 min 00 s"), (7260, "2 h 01 min")],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 KB"), (2.5e12, "2.5 TB")])
def test_sizes_for_people(count: float, text: str) -> None:
    assert console.size(count) == text
