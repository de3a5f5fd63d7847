"""A layer over every call that changes a disk: it counts them, dies at one of them, and remembers them."""

import os
import pickle
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embprobe.store import disk

SINGLE = ("sync", "make_folder", "rename", "link", "point", "unlink", "remove_folder")  # done, or not
TORN = ("create", "append")  # done, not done, or in part


@dataclass
class Layer:
    """Counts crash points; at number `fatal` the process dies as by a power cut or kill -9."""

    fatal: int | None = None
    record: Path | None = None  # where the calls go when it dies
    points: int = 0
    calls: list[tuple[Any, ...]] = field(default_factory=list)  # name, paths, bytes, whether in part
    turn: threading.RLock = field(default_factory=threading.RLock)

    def install(self) -> None:
        """In this process, for good; use it in a fork."""
        for name in SINGLE:
            setattr(disk, name, self._single(name, getattr(disk, name)))
        for name in TORN:
            setattr(disk, name, self._torn(name, getattr(disk, name)))

    def point(self) -> None:
        """A place to die at."""
        self.points += 1
        if self.points == self.fatal:
            self.end()
            os.kill(os.getpid(), signal.SIGKILL)

    def end(self) -> None:
        """Leaves the calls so far, for who replays them."""
        if self.record is not None:
            self.record.write_bytes(pickle.dumps(self.calls))

    def _single(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            with self.turn:
                self.point()
                done = real(*args)
                self.calls.append((name, *args))
                return done

        return call

    def _torn(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Path, data: Any) -> None:
            with self.turn:
                self.point()
                half = bytes(data)[: len(data) // 2]
                if self.points + 1 == self.fatal:
                    with path.open("wb" if name == "create" else "ab") as file:
                        file.write(half)
                    self.calls.append((f"half {name}", path, half))
                self.point()
                real(path, data)
                self.calls.append((name, path, bytes(data)))

        return call
