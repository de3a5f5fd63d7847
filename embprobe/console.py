"""Progress, tables and one-line messages; the only file that prints."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

PLAIN_SECONDS = 10.0  # between progress lines when stderr is no terminal

_result: TextIO | None = None


def guard_stdout() -> None:
    """Sends whatever libraries print to stderr; only `result` reaches the real stdout."""
    global _result
    if _result is not None:
        return
    sys.stdout.flush()
    _result = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="surrogateescape")
    os.dup2(2, 1)
    sys.stdout = sys.stderr


def result(text: str) -> None:
    """Prints to stdout: what the command was asked for."""
    stream = _result or sys.stdout
    stream.write(text + "\n")
    stream.flush()


def result_json(value: Any) -> None:  # Any: whatever JSON can hold
    """Prints JSON to stdout."""
    result(json.dumps(value, ensure_ascii=False, indent=1, default=str))


def say(text: str) -> None:
    """One line on stderr."""
    _live.clear()
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def fail(text: str) -> None:
    """An error, in one unwrapped line on stderr."""
    say("embprobe: " + " ".join(str(text).split("\n")))


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, to_stderr: bool = False) -> None:
    """Columns as wide as their longest cell; numbers to the right."""
    widths = [max(len(str(c)) for c in column) for column in zip(headers, *rows, strict=True)]
    right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(headers))]
    for row in (headers, *rows):
        cells = [str(c).rjust(w) if r else str(c).ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
        line = "  ".join(cells).rstrip()
        say(line) if to_stderr else result(line)


def _is_number(cell: str) -> bool:
    return str(cell).strip()[:1] in "-+0123456789–" or str(cell) == ""


def size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def duration(seconds: float) -> str:
    """A span of time for people."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


class Bar:
    """How far a long piece of work is: rate, remaining time and the metric that matters."""

    def __init__(self, label: str, total: int, unit: str, start: int) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self.first = start
        self.began = self.told = time.monotonic()
        self.live = sys.stderr.isatty()
        self.metrics: dict[str, float] = {}

    def advance(self, count: int = 1, **metrics: float) -> None:
        """Tells that `count` more are done; shows the metrics given."""
        self.done += count
        self.metrics |= metrics
        now = time.monotonic()
        if now - self.told >= (0.2 if self.live else PLAIN_SECONDS):
            self.told = now
            self._show()

    def line(self) -> str:
        """The state as one line."""
        spent = max(1e-9, time.monotonic() - self.began)
        rate = (self.done - self.first) / spent
        left = f", {duration((self.total - self.done) / rate)} left" if rate > 0 and self.done < self.total else ""
        shown = "".join(f"  {k} {v:.4g}" for k, v in self.metrics.items())
        return f"{self.label} {self.done}/{self.total}  {rate:.3g} {self.unit}/s{left}{shown}"

    def _show(self) -> None:
        if self.live:
            columns = os.get_terminal_size(2).columns
            sys.stderr.write("\r\x1b[2K" + self.line()[: columns - 1])
            sys.stderr.flush()
        else:
            sys.stderr.write(self.line() + "\n")
            sys.stderr.flush()

    def clear(self) -> None:
        """Frees the terminal's line."""
        if self.live:
            sys.stderr.write("\r\x1b[2K")


class _Live:
    """The bar being shown, so that a message does not land in its line."""

    bar: Bar | None = None

    def clear(self) -> None:
        if self.bar is not None:
            self.bar.clear()


_live = _Live()


@contextlib.contextmanager
def progress(label: str, *, total: int, unit: str, start: int = 0) -> Iterator[Bar]:
    """Shows progress on stderr while the block runs; ends with one line of the whole."""
    bar = Bar(label, total, unit, start)
    before, _live.bar = _live.bar, bar
    try:
        yield bar
    finally:
        bar.clear()
        _live.bar = before
        if bar.done > bar.first:
            spent = time.monotonic() - bar.began
            say(f"{bar.line()} in {duration(spent)}")
