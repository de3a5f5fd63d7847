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
from embprobe.errors import DamagedError, Interrupted, MachineError
from embprobe.store import disk

BEAT = 15.0  # seconds between heartbeats
DEAD = 120.0  # a holder on another host this long silent is taken for dead
DOUBT = 0.3  # seconds after which two that took the lock at once know which of them has it
FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


class Lock:
    """Held through flock where the file system has it; the file tells who holds it, and its time is the heartbeat."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.token = os.urandom(8).hex()
        self._fd: int | None = None
        self._stop = threading.Event()

    @contextmanager
    def held(self, *, wait: bool, what: str, doing: str = "made") -> Iterator["Lock"]:
        """Holds the lock; waits for a live holder, or raises Interrupted (75) if not to wait."""
        announced = False
        while not self._acquire():
            if not wait:
                raise Interrupted(f"{what} is being {doing} by {self._holder()}; wait for it, or stop it first")
            if not announced:
                console.say(f"{what} is being {doing} by {self._holder()}; waiting")
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
        disk.make_folder(self.path.parent)  # gone, perhaps, while this waited
        fd = disk.open_plain(self.path, FLAGS)
        shared = False  # whether this file system lets flock decide
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shared = True
        except BlockingIOError:
            os.close(fd)
            return False
        except OSError:
            pass  # no flock here: the heartbeat decides alone
        holder = self._read()
        elsewhere = holder.get("host") not in (None, socket.gethostname())
        if not self._same(fd) or ((elsewhere or (holder and not shared)) and self._alive()):
            os.close(fd)
            return False
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "token": self.token}
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(mine).encode(), 0)
        os.fsync(fd)
        os.utime(fd)
        if not shared:
            time.sleep(DOUBT)
            if self._read().get("token") != self.token:
                os.close(fd)
                return False
        self._fd = fd
        return True

    def _same(self, fd: int) -> bool:
        """Whether the file that was opened is still the one at the path: its folder may have been removed meanwhile."""
        try:
            return os.path.samestat(os.fstat(fd), self.path.lstat())
        except FileNotFoundError:
            return False

    def _alive(self) -> bool:
        """Whether the heart has beaten lately, by the clock of the file system; no heart beats in the future."""
        probe = self.path.with_name(f"{self.path.name}.{self.token}")
        try:
            disk.create(probe, b"")
            now = probe.lstat().st_mtime
        finally:
            disk.unlink(probe)
        return abs(now - self.path.lstat().st_mtime) < DEAD

    def _release(self) -> None:
        if self._fd is not None:
            if self._read().get("token") == self.token:
                os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = None

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            if self._fd is not None and self._read().get("token") == self.token:
                os.utime(self._fd)

    def _read(self) -> dict[str, str]:
        try:
            holder = json.loads(disk.read(self.path, 1 << 12))
        except (OSError, ValueError, DamagedError):
            return {}
        return holder if isinstance(holder, dict) else {}

    def _holder(self) -> str:
        holder = self._read()
        return f"process {holder['pid']} on {holder.get('host')}" if "pid" in holder else "another process"
