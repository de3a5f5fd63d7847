"""Stops on request: a signal is noted when it comes and acted on at the next whole chunk or step, or soon without."""

import contextlib
import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

from embprobe.errors import Interrupted

STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP, signal.SIGINT)
PATIENCE = 4.0  # seconds for the work to come to a whole chunk or step; what is on disk by then is safe without it
SAVING = 60.0  # seconds more for a checkpoint that is being written

_received: list[int] = []
_saving = threading.Event()


def install() -> None:
    """Notes SIGTERM, SIGUSR1, SIGHUP and the first Ctrl-C; a second Ctrl-C stops at once.

    A signal that finds the process deep in a computation, or waiting for a file, is obeyed too: what it has not written by
    PATIENCE is given up, as if it had been killed, and made again by the next run.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    for signum in STOPPING:
        if signal.getsignal(signum) is not signal.SIG_IGN or signum != signal.SIGHUP:  # nohup
            signal.signal(signum, _note)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reading,), daemon=True).start()


def _note(signum: int, frame: FrameType | None) -> None:
    if signum == signal.SIGINT and signal.SIGINT in _received:
        die(signum)
    _received.append(signum)


def _watch(reading: int) -> None:
    """Ends the process some time after the first signal; woken by the operating system, whatever Python is doing."""
    signum = 0
    while signum not in STOPPING:
        signum = os.read(reading, 1)[0]
    time.sleep(PATIENCE)
    given_up = time.monotonic() + SAVING
    while _saving.is_set() and time.monotonic() < given_up:
        time.sleep(0.05)
    with contextlib.suppress(OSError):
        os.write(2, f"embprobe: {_stopped(signum)}\n".encode())
    if signum == signal.SIGINT:
        ctypes.CDLL(None).signal(signum, 0)  # to its default; Python's own call is for the main thread alone
        os.kill(os.getpid(), signum)
        time.sleep(1)
    os._exit(Interrupted.exit_code)


def received() -> int | None:
    """The signal that has asked to stop, the first of several."""
    return _received[0] if _received else None


def requested() -> bool:
    """Whether a signal has asked to stop."""
    return bool(_received)


def check() -> None:
    """Raises Interrupted when a signal has asked to stop; call it where everything done so far is on disk."""
    if _received:
        raise Interrupted(_stopped(_received[0]), _received[0])


@contextlib.contextmanager
def saving() -> Iterator[None]:
    """While the work is being saved, a signal is given more time."""
    _saving.set()
    try:
        yield
    finally:
        _saving.clear()


def _stopped(signum: int) -> str:
    return f"stopped by {signal.Signals(signum).name}; run the same command again to continue"


def die(signum: int) -> None:
    """Ends this process by the signal itself, so that a shell loop around it stops too."""
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)
