"""Processes that make one step of a recipe at a time; they end with the process that started them."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Pipe, wait
from typing import Any, Self

from embprobe import console, errors, signals, threads
from embprobe.recipe import Value
from embprobe.stage import Stage
from embprobe.store import Artefact, Store

Message = dict[str, Any]  # Any: JSON

START = """\
import json, sys
sys.path[:] = json.loads(sys.argv.pop())
from embprobe.__main__ import respond
from embprobe.running.worker import work
respond(work)
"""
GLANCE = 0.2  # seconds between two looks whether a signal has come


@dataclass
class Failed:
    """What a worker could not make, and why."""

    error: errors.EmbprobeError


@dataclass(frozen=True)
class Answer:
    """What came of a step, and after how many seconds."""

    index: int
    seconds: float
    result: str | Failed  # the path of its artefact


class Worker:
    """A process, the pipe to it, and the step that it is making."""

    def __init__(self, share: str) -> None:
        self.pipe, theirs = Pipe()
        environment = os.environ | {threads.NUMBER: share}
        threads.settle(environment)
        self.index: int | None = None
        self.began = 0.0
        self.bars: dict[int, tuple[contextlib.ExitStack, console.Bar]] = {}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", START, str(theirs.fileno()), json.dumps(sys.path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env=environment,
            start_new_session=True,  # Ctrl-C reaches it through us, once
        )
        theirs.close()

    def clear(self) -> None:
        """Takes its bars away."""
        while self.bars:
            self.bars.popitem()[1][0].close()

    def end(self) -> None:
        """Lets it go; one that is still busy saves what it has."""
        self.clear()
        self.pipe.close()


class Workers:
    """At most `most` workers, started when they are needed; they share the cores, unless the user gave a number of threads."""

    def __init__(self, most: int, total: int) -> None:
        self.most, self.total = most, total
        self.share = threads.said_by_user() or str(max(1, threads.usable_cores() // most))
        self.started: list[Worker] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.busy:
            self.stop()
        for worker in self.started:
            worker.end()
        for worker in self.started:
            worker.process.wait()

    @property
    def busy(self) -> list[Worker]:
        """Those that are making something."""
        return [worker for worker in self.started if worker.index is not None]

    @property
    def free(self) -> int:
        """How many more steps can be asked for."""
        return self.most - len(self.busy)

    def ask(self, index: int, cls: type[Stage], options: dict[str, Value], store: Store, *, wait: bool) -> None:
        """Has a step made, by its place in the recipe."""
        worker = next((worker for worker in self.started if worker.index is None), None)
        if worker is None:
            worker = Worker(self.share)
            self.started.append(worker)
        worker.index, worker.began = index, time.monotonic()
        asked = {"stage": cls.name(), "options": options, "store": str(store.root), "wait": wait}
        with contextlib.suppress(BrokenPipeError):  # it has died, which `answers` finds
            worker.pipe.send_bytes(json.dumps(asked, default=_as_json).encode())

    def answers(self) -> Iterator[Answer]:
        """What has come in the next moment; what workers say is shown on the way."""
        ready = wait([worker.pipe for worker in self.busy], GLANCE)
        for worker in [worker for worker in self.busy if worker.pipe in ready]:
            index, seconds = worker.index, time.monotonic() - worker.began
            assert index is not None
            try:
                result = self._heard(worker, json.loads(worker.pipe.recv_bytes()))
            except (EOFError, ConnectionResetError):
                self.started.remove(worker)
                worker.end()
                result = Failed(_death(worker.process.wait()))
            if result is not None:
                worker.index = None
                worker.clear()
                yield Answer(index, seconds, result)

    def stop(self) -> None:
        """Passes the signal that came to the busy ones, SIGTERM without, and waits until they have saved what they had."""
        for worker in self.busy:
            worker.process.send_signal(signals.received() or signals.STOPPING[0])
        with signals.saving():
            while self.busy:
                for _ in self.answers():
                    pass

    def _heard(self, worker: Worker, message: Message) -> str | Failed | None:
        """Shows what is to be shown; a path or an error once the step is over."""
        if "made" in message:
            return str(message["made"])
        if "failed" in message:
            error: errors.EmbprobeError = getattr(errors, message["kind"])(message["failed"])
            return Failed(error)
        assert worker.index is not None
        place = f"[{worker.index + 1}/{self.total}]"
        if "say" in message:
            console.say(f"{place} {message['say']}")
        elif "label" in message:
            stack = contextlib.ExitStack()
            label = f"{place} {message['label']}"
            bar = console.progress(label, total=message["total"], unit=message["unit"], start=message["start"])
            worker.bars[message["bar"]] = stack, stack.enter_context(bar)
        elif "done" in message:
            _, shown = worker.bars[message["bar"]]
            shown.metrics |= message["metrics"]
            shown.restart(message["done"])
        else:
            worker.bars.pop(message["bar"])[0].close()
        return None


def _as_json(value: object) -> object:
    return {"artefact": str(value.path)} if isinstance(value, Artefact) else str(value)


def _death(code: int) -> errors.MachineError:
    if code < 0:
        words = f"its process was killed (signal {-code}), perhaps for want of memory; fewer --jobs need less"
    else:
        words = f"its process ended with {code}; the lines above say why"
    return errors.MachineError(f"{words}; run the same command again, it continues")
