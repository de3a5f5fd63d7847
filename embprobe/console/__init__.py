"""Progress, tables and one-line messages: drawn by rich on a terminal, plain lines elsewhere; the only file that prints."""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from embprobe import signals
from embprobe.console.words import CONTROL, aligned_lines, folded_lines, is_number, one_line
from embprobe.console.words import duration as duration
from embprobe.console.words import size as size
from embprobe.console.words import visible as visible
from embprobe.errors import MachineError, UserError

if TYPE_CHECKING:
    from rich.progress import Progress

PLAIN_SECONDS = 10.0  # between progress lines when stderr is no terminal
RELAY_SECONDS = 0.25  # between the states of a bar that a worker tells
LONGEST = 4000  # characters of an error; a wrong value may be a whole file

Tell = Callable[[dict[str, Any]], None]  # Any: JSON
_result: TextIO | None = None
_tell: Tell | None = None  # where lines and bars go in a worker
_quiet = False
_worked = 0.0  # seconds that bars were there
_live: "list[tuple[Progress, Bar]]" = []  # bars being drawn, all on one display


def guard_stdout() -> None:
    """Sends whatever libraries print to stderr; only `result` reaches the real stdout."""
    global _result
    if _result is not None:
        return
    if sys.stdout is None:
        raise UserError(
            "stdout is closed, so there is no place for the result; send it to /dev/null if nobody needs it"
        )
    sys.stdout.flush()
    _result = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="surrogateescape")
    os.dup2(2, 1)
    sys.stdout = sys.stderr


def mend_stderr() -> None:
    """Where stderr is closed, lets nobody hear it: the next file to be opened would be written into."""
    if sys.stderr is None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.stderr = os.fdopen(2, "w")


def relay(tell: Tell) -> None:
    """Hands lines and bars to `tell` from here on, in place of stderr: the process that hears them shows them."""
    global _tell
    _tell = tell


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drops lines while the block runs, since they are said again when it is done in earnest; bars are shown."""
    global _quiet
    before, _quiet = _quiet, True
    try:
        yield
    finally:
        _quiet = before


def result(text: str) -> None:
    """Prints to stdout: what the command was asked for."""
    result_path(visible(text))


def result_path(text: str) -> None:
    """Prints to stdout what a script goes on with, whatever characters it is made of."""
    stream = _result or sys.stdout
    try:
        _write(stream, text)
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # what is left in the buffer is tried again at exit
        raise MachineError(f"stdout could not be written ({error.strerror}); run the same command again") from None


def document(markdown: str) -> None:
    """Prints Markdown to stdout: drawn on a terminal, as it is elsewhere."""
    stream = _result or sys.stdout
    if not stream.isatty():
        result(markdown.rstrip("\n"))
        return
    from rich.console import Console
    from rich.markdown import Markdown

    Console(file=stream).print(Markdown(markdown))


def result_json(value: Any) -> None:  # Any: whatever JSON can hold
    """Prints JSON to stdout."""
    text = json.dumps(value, ensure_ascii=False, indent=1, default=str)
    result(CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text + "\n")
        stream.flush()
    except BrokenPipeError:  # the reader has enough, as `head` has
        signals.die(signal.SIGPIPE)


def say(text: str) -> None:
    """One line on stderr; above the bars where some are drawn."""
    if _quiet:
        return
    text = one_line(text)
    if _tell is not None:
        _tell({"say": text})
        return
    if _live:
        _live[0][0].console.print(text, markup=False, highlight=False, soft_wrap=True)
        return
    _write(sys.stderr, text)


def fail(text: str) -> None:
    """An error, in one unwrapped line on stderr."""
    line = "embprobe: " + " ".join(str(text).split("\n"))
    say(line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} … {line[-LONGEST // 2 :]}")


def trace(error: Exception) -> None:
    """The traceback of a defect, on stderr."""
    import traceback

    for line in "".join(traceback.format_exception(error)).split("\n"):
        say(line)


# ---- tables


def print_table(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, to_stderr: bool = False, wrapping: Sequence[str] = ()
) -> None:
    """Columns as wide as their longest cell, numbers to the right; rules and bold headers on a terminal.

    Where a terminal is too narrow, columns named in `wrapping` stand below each row; if none is named, cells are folded.
    """
    headers, rows = [one_line(header) for header in headers], [[one_line(str(cell)) for cell in row] for row in rows]
    right = [bool(rows) and all(is_number(row[i]) for row in rows) for i in range(len(headers))]
    stream = sys.stderr if to_stderr else _result or sys.stdout
    lines = aligned_lines(headers, rows, right)
    if stream.isatty():
        width = os.get_terminal_size(stream.fileno()).columns or 80
        if not wrapping or max(map(len, lines)) + len(headers) <= width:
            _rich_table(headers, rows, right, stream)
            return
        lines = folded_lines(headers, rows, right, wrapping, width)
    for line in lines:
        say(line) if to_stderr else result(line)


def _rich_table(headers: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[bool], stream: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header, numbers in zip(headers, right, strict=True):
        drawn.add_column(Text(header), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(str(cell)) for cell in row))
    Console(file=stream).print(drawn)


# ---- progress


class Bar:
    """How far a long piece of work is: rate, remaining time and the metric that matters; plain lines on stderr."""

    def __init__(self, label: str, total: int, unit: str, start: int) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done = self.first = start
        self.began = self.shown = time.monotonic()
        self.metrics: dict[str, float] = {}

    def advance(self, count: int = 1, **metrics: float) -> None:
        """Counts `count` more; shows the metrics given."""
        self.done += count
        self.metrics |= metrics
        self.show()

    def restart(self, done: int) -> None:
        """Goes back to where so many are done."""
        self.done = done
        self.show()

    def show(self) -> None:
        """Writes a line, every few seconds."""
        now = time.monotonic()
        if now - self.shown >= PLAIN_SECONDS:
            self.shown = now
            _write(sys.stderr, self.line())

    def line(self) -> str:
        """The state as one line."""
        return f"{self.label} {self.done}/{self.total}  {self.pace()}"

    def pace(self) -> str:
        """Rate, remaining time and metrics."""
        rate = (self.done - self.first) / max(1e-9, time.monotonic() - self.began)
        left = f", {duration((self.total - self.done) / rate)} left" if rate > 0 and self.done < self.total else ""
        metrics = "".join(f"  {k} {v:.4g}" for k, v in self.metrics.items())
        return f"{rate:.3g} {self.unit}/s{left}{metrics}"


class DrawnBar(Bar):
    """The same on a terminal, drawn by rich."""

    def __init__(self, label: str, total: int, unit: str, start: int, display: "Progress") -> None:
        super().__init__(label, total, unit, start)
        self.display = display
        self.task = display.add_task(label, total=total, completed=start, pace="")

    def show(self) -> None:
        """Hands the state to rich, which draws ten times a second."""
        self.display.update(self.task, completed=self.done, pace=self.pace())


class RelayedBar(Bar):
    """The same in a worker: told to the process that shows it."""

    def __init__(self, label: str, total: int, unit: str, start: int, tell: Tell) -> None:
        super().__init__(label, total, unit, start)
        self.tell = tell
        tell({"bar": id(self), "label": label, "total": total, "unit": unit, "start": start})

    def show(self) -> None:
        """Tells how far it is, unless it did so a moment ago."""
        now = time.monotonic()
        if now - self.shown >= RELAY_SECONDS or self.done == self.total:
            self.shown = now
            self.tell({"bar": id(self), "done": self.done, "metrics": self.metrics})


@contextlib.contextmanager
def progress(label: str, *, total: int, unit: str, start: int = 0) -> Iterator[Bar]:
    """Shows progress on stderr while the block runs; ends with one line of the whole."""
    global _worked
    bar: Bar | None = None
    try:
        with _bar(one_line(label), total, unit, start) as bar:
            yield bar
    finally:
        if bar is not None:
            _worked += time.monotonic() - bar.began
        if bar is not None and bar.done > bar.first and _tell is None:
            say(f"{bar.line()} in {duration(time.monotonic() - bar.began)}")


def seconds_at_work() -> float:
    """How long bars were there in this process: what takes longer where there is more to do."""
    return _worked


@contextlib.contextmanager
def _bar(label: str, total: int, unit: str, start: int) -> Iterator[Bar]:
    if _tell is not None:
        yield (relayed := RelayedBar(label, total, unit, start, _tell))
        _tell({"bar": id(relayed)})
        return
    if not sys.stderr.isatty():
        yield Bar(label, total, unit, start)
        return
    display = _live[0][0] if _live else _display()
    bar = DrawnBar(label, total, unit, start, display)
    _live.append((display, bar))
    try:
        yield bar
    finally:
        _live.remove((display, bar))  # not always the last: those of several workers end as they will
        display.remove_task(bar.task)
        if not _live:
            display.stop()


def _display() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(20), MofNCompleteColumn(),
               TextColumn("{task.fields[pace]}", markup=False))  # fmt: skip
    display = Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
    display.start()
    return display
