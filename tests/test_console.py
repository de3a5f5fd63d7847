"""The console: stdout holds results alone, everything else is plain lines on stderr."""

import os
import re
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


TERMINAL = """
import sys, time
from embprobe import console
with console.progress("outer", total=3, unit="img") as bar:
    for i in range(3):
        with console.progress("inner", total=2, unit="step") as steps:
            for _ in range(2):
                time.sleep(0.06)
                steps.advance(1, loss=0.5)
        console.say(f"said {i}")
        bar.advance()
console.print_table(["name", "value"], [["a [b]", "1.5"], ["longer", "12.25"]])
"""


def terminal(*words: str) -> str:
    """What a command shows on a terminal of 100 columns."""
    import pty

    master, slave = pty.openpty()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen([sys.executable, *words], stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    shown = b""
    while True:
        try:
            part = os.read(master, 1 << 16)
        except OSError:
            break
        if not part:
            break
        shown += part
    assert process.wait() == 0, shown.decode()
    return shown.decode()


def test_a_terminal_gets_bars_tables_and_messages_that_do_not_mix() -> None:
    shown = terminal("-c", TERMINAL)
    assert "\x1b[" in shown and "━" in shown and "inner" in shown and "step/s" in shown and "loss 0.5" in shown
    assert all(f"said {i}" in shown for i in range(3)) and "outer 3/3" in shown
    assert "a [b]" in shown and "12.25" in shown and "─" in shown


def test_help_is_drawn_on_a_terminal_and_plain_elsewhere() -> None:
    drawn = terminal("-m", "embprobe", "extract", "--help")
    words = " ".join(re.sub(r"\x1b\[[0-9;]*m|│", "", drawn).split())
    assert "╭" in drawn and "--encoder" in words and "[default: f16]" in words and "pixels[:PATCH]" in words
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    plain = subprocess.run(
        [sys.executable, "-m", "embprobe", "extract", "--help"], capture_output=True, text=True, env=environment
    ).stdout
    assert "╭" not in plain and "\x1b" not in plain and "--encoder" in plain


def test_bars_that_end_in_any_order_leave_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
from embprobe import console
one, two = (console.progress(name, total=2, unit="img") for name in ("first", "second"))
for bar in (one.__enter__(), two.__enter__()):
    bar.advance()
one.__exit__(None, None, None)
console.say("between")
two.__exit__(None, None, None)
"""
    shown = terminal("-c", code)
    assert shown.index("first 1/2") < shown.index("between") < shown.index("second 1/2")


def test_a_worker_tells_lines_and_bars_in_place_of_showing_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told: list[dict[str, object]] = []
    monkeypatch.setattr(console, "_tell", told.append)
    console.say("a\x1bb")
    with console.progress("drawing", total=2, unit="img") as bar:
        bar.advance(2, loss=0.5)
    first, start, state, end = told
    assert first == {"say": "a\\x1bb"} and capsys.readouterr().err == ""
    assert (start["label"], start["total"], start["unit"], start["start"]) == ("drawing", 2, "img", 0)
    assert (state["done"], state["metrics"]) == (2, {"loss": 0.5}) and end == {"bar": start["bar"]}
