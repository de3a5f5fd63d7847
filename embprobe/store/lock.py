"""One writer an artefact: a file lock on one host, a heartbeat across hosts, a token that every write checks."""

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embprobe import console, signals
from embprobe.errors import Interrupted, MachineError

BEAT = 15.0  # seconds between heartbeats
DEAD = 120.0  # a holder on another host this long silent is taken for dead


class Lock:
    """Held through flock where the file system has it; the file tells who holds it, and its time is the heartbeat."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.token = os.urandom(8).hex()
        self._fd: int | None = None
        self._stop = threading.Event()

    @contextmanager
    def held(self, *, wait: bool, what: str) -> Iterator["Lock"]:
        """Holds the lock; waits for a live holder, or raises Interrupted (75) if not to wait."""
        announced = False
        while not self._acquire():
            if not wait:
                raise Interrupted(f"{what} is being made by {self._holder()}; without --no-wait this waits for it")
            if not announced:
                console.say(f"{what} is being made by {self._holder()}; waiting")
                announced = True
            signals.check()
            time.sleep(0.2)
        beat = threading.Thread(target=self._beat, daemon=True)
        beat.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._release()

    def check(self) -> None:
        """Raises MachineError when another process has taken the lock over."""
        if self._read().get("token") != self.token:
            raise MachineError(f"the lock {self.path} was taken over by {self._holder()}; stopped before writing more")

    def _acquire(self) -> bool:
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except OSError:
            pass  # no flock on this file system: the heartbeat decides alone
        holder = self._read()
        elsewhere = holder.get("host") not in (None, socket.gethostname())
        if elsewhere and time.time() - self.path.stat().st_mtime < DEAD:
            os.close(fd)
            return False
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "token": self.token}
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(mine).encode(), 0)
        os.fsync(fd)
        self._fd = fd
        return True

    def _release(self) -> None:
        if self._fd is not None:
            if self._read().get("token") == self.token:
                os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            if self._read().get("token") == self.token:
                os.utime(self.path)

    def _read(self) -> dict[str, str]:
        try:
            holder: dict[str, str] = json.loads(self.path.read_text())
            return holder
        except (OSError, ValueError):
            return {}

    def _holder(self) -> str:
        holder = self._read()
        return f"process {holder['pid']} on {holder['host']}" if "pid" in holder else "another process"
