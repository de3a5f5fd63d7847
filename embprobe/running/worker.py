"""The other side of a worker: makes the steps that it is asked for, and tells what it does and what came of them."""

import contextlib
import json
import os
import queue
import signal
import sys
import threading
from functools import partial
from multiprocessing.connection import Connection

from embprobe import console, signals
from embprobe.errors import EmbprobeError, Interrupted
from embprobe.making import make
from embprobe.options import build
from embprobe.recipe import Value
from embprobe.stages import INGEST, STAGES
from embprobe.store import Store


def work() -> int:
    """Makes what is asked for until nobody asks any more; 75 where a signal stopped it."""
    console.guard_stdout()
    signals.install()
    link = Link(Connection(int(sys.argv[1])))
    console.relay(link.tell)
    for request in iter(link.asked.get, None):
        try:
            answer = {"made": _made(**request)}
        except EmbprobeError as error:
            if isinstance(error, Interrupted) and error.signum is not None:
                return error.exit_code
            answer = {"failed": str(error), "kind": type(error).__name__}
        link.idle.set()
        link.tell(answer)
    return 0


def _made(stage: str, options: dict[str, Value], store: str, wait: bool) -> str:
    place = Store(store)
    maker = partial(make, store=place, wait=wait)
    given = {name: _meant(value, place) for name, value in options.items()}
    return str(maker(build(STAGES[stage], given, place, maker, ingest=INGEST)).path)


def _meant(value: Value, store: Store) -> Value:
    if isinstance(value, list):
        return [_meant(part, store) for part in value]
    return store[value["artefact"]] if isinstance(value, dict) and "artefact" in value else value


class Link:
    """The pipe to the process that asks. Where that one is gone, this one stops as if told to: nobody wants the rest."""

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self.asked: queue.SimpleQueue[dict[str, Value] | None] = queue.SimpleQueue()
        self.idle, self.speaking = threading.Event(), threading.Lock()
        self.idle.set()
        threading.Thread(target=self._listen, daemon=True).start()

    def tell(self, message: dict[str, Value]) -> None:
        """Says something, if there is anybody left to hear it."""
        with self.speaking, contextlib.suppress(OSError):
            self.pipe.send_bytes(json.dumps(message).encode())

    def _listen(self) -> None:
        try:
            while True:
                request = json.loads(self.pipe.recv_bytes())
                self.idle.clear()
                self.asked.put(request)
        except (EOFError, OSError):
            self.asked.put(None)
            if not self.idle.is_set():
                os.kill(os.getpid(), signal.SIGTERM)
